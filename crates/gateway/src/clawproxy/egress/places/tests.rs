//! Where names lead, by a clock that is set.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers as it is told; what it was told nothing about, it never answers.
#[derive(Default)]
struct Told(Mutex<HashMap<String, Vec<IpAddr>>>, Mutex<Vec<String>>);

impl Told {
    fn leads(&self, name: &str, to: &[&str]) {
        let to = to.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), to);
    }

    fn asked(&self, name: &str) -> usize {
        let asked = self.1.lock().unwrap();
        asked.iter().filter(|asked| *asked == name).count()
    }
}

impl Resolve for Told {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.1.lock().unwrap().push(name.to_owned());
        let answer = self.0.lock().unwrap().get(name).cloned();
        Box::pin(async {
            match answer {
                Some(answer) => Ok(answer),
                None => std::future::pending().await,
            }
        })
    }
}

fn to(text: &str) -> Destination {
    Destination::parse(EgressOperation::Connect, text).unwrap()
}

fn places(told: &Arc<Told>, reserved: &[(Reserved, &str)]) -> Places {
    let reserved = reserved.iter();
    Places {
        resolver: Arc::clone(told) as Arc<dyn Resolve>,
        patience: PATIENCE,
        excepted: Vec::new(),
        listening: Vec::new(),
        reserved: reserved
            .map(|(whose, host)| Known::new(*whose, to(host)))
            .collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn names_wait_until_it_is_known_where_reserved_ones_lead() {
    let told = Arc::new(Told::default());
    told.leads("alias.example", &["93.184.216.34"]);
    let places = places(&told, &[(Reserved::TerraformCloud, "tfe.example:443")]);
    let found = places.look_up(&to("alias.example:443")).await;
    assert!(found.addresses.is_empty() && found.reserved.is_none());
    // Nobody has pointed an address there, and on another port there is nothing to go around.
    for free in ["93.184.216.34:443", "alias.example:8443"] {
        let found = places.look_up(&to(free)).await;
        assert_eq!(found.addresses.len(), 1, "{free}");
    }
    told.leads("tfe.example", &["93.184.216.34"]);
    tokio::time::advance(FRESH).await;
    let alias = async || places.look_up(&to("alias.example:443")).await;
    assert_eq!(alias().await.reserved, Some(Reserved::TerraformCloud));
    // It has several addresses and says them in turn.
    told.leads("tfe.example", &["93.184.216.35"]);
    tokio::time::advance(FRESH).await;
    assert_eq!(alias().await.reserved, Some(Reserved::TerraformCloud));
    told.leads("alias.example", &["93.184.216.35"]);
    assert_eq!(alias().await.reserved, Some(Reserved::TerraformCloud));
    told.leads("alias.example", &["93.184.216.36"]);
    let found = alias().await;
    assert!(found.reserved.is_none() && found.addresses.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_by_name_only_need_not_be_there() {
    let told = Arc::new(Told::default());
    told.leads("mirror.example", &["93.184.216.34"]);
    let reserved = [
        (Reserved::TerraformCloud, "app.terraform.io:443"),
        (Reserved::TerraformCloud, "archivist.terraform.io:443"),
        (Reserved::ModelProvider, "models.example:443"),
    ];
    let places = places(&told, &reserved);
    let found = places.look_up(&to("mirror.example:443")).await;
    assert_eq!(found.addresses.len(), 1);
    assert_eq!(told.asked("app.terraform.io"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_question_about_a_reserved_name_serves_all() {
    let told = Arc::new(Told::default());
    told.leads("alias.example", &["93.184.216.34"]);
    let places = places(&told, &[(Reserved::TerraformCloud, "tfe.example:443")]);
    let alias = to("alias.example:443");
    let began = Instant::now();
    join_all((0..8).map(|_| places.look_up(&alias))).await;
    assert_eq!(told.asked("tfe.example"), 1, "also when nobody answers");
    assert_eq!(began.elapsed(), PATIENCE, "for all at once");
    tokio::time::advance(FRESH).await;
    told.leads("tfe.example", &["93.184.216.35"]);
    for _ in 0..8 {
        assert_eq!(places.look_up(&alias).await.addresses.len(), 1);
    }
    assert_eq!(told.asked("tfe.example"), 2);
}

#[test]
fn the_latest_addresses_are_kept() {
    let ip = |n: usize| IpAddr::from(Ipv4Addr::from(n as u32));
    let mut led_to = LedTo::default();
    led_to.add(&[ip(0), ip(1)]);
    for n in 2..=MOST_KEPT {
        led_to.add(&[ip(n), ip(0)]);
    }
    assert_eq!(led_to.addresses.len(), MOST_KEPT);
    assert!(led_to.addresses.contains(&ip(0)), "it is still answered");
    assert!(!led_to.addresses.contains(&ip(1)));
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_keeps_its_place() {
    let places = Arc::new(Semaphore::new(1));
    let (began, begins) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let waiting = tokio::spawn(bounded(Arc::clone(&places), async move {
        began.send(()).unwrap();
        let _ = released.await;
        Ok(())
    }));
    begins.await.unwrap();
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(places.available_permits(), 0);
    release.send(()).unwrap();
    bounded(places, async { Ok(()) }).await.unwrap();
}
