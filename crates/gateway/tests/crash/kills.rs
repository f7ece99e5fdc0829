//! Kills at random moments and at random points, under load.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::points::POINTS;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::check::{self, Counted};
use crate::process::Process;
use crate::story;
use crate::world::World;

/// Kills of one world: as many as the stand-ins remember what was asked of them.
const OF_A_WORLD: u64 = 100;

/// Most milliseconds of a gateway that is killed while it starts.
const STARTING: u64 = 60;

/// Most commits of a gateway that is killed while it serves, and how long it is waited for them. A
/// life is as long as what was done in it, so that a slow machine gets as far as a fast one.
const COMMITS: u64 = 40;
const FOR_COMMITS: Duration = Duration::from_millis(600);

/// Most milliseconds from the last of those commits to the kill.
const AFTERWARDS: u64 = 8;

/// Most commits until a kill point is reached; then it is a kill while serving after all.
const FOR_A_POINT: u64 = 60;

/// Points that are armed at a time, and how many times one may be passed before it is the one.
const ARMED: usize = 8;
const VISITS: u64 = 3;

/// A disk that takes its time, in every second life: were anything answered before it is durable, the
/// answer would be with its client when the kill comes. On a quick disk nearly no kill falls there.
const SLOW_COMMITS: &str = "commit.before:30";

/// How a gateway died.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Death {
    Starting,
    Serving,
    At(String),
}

/// What a world went through.
#[derive(Debug, Default)]
struct Suffered {
    deaths: BTreeMap<Death, u64>,
    counted: Counted,
}

/// A number in the environment.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[test]
fn kills_lose_nothing() {
    let kills = asked("CLAWGATE_KILLS").unwrap_or(200);
    let seed = asked("CLAWGATE_SEED").unwrap_or(1);
    let at_a_time = asked("CLAWGATE_WORLDS").unwrap_or(4);
    let began = Instant::now();
    let mut chance = Chance::new(seed);
    // A short run has as many worlds at a time as a long one.
    let of_a_world = OF_A_WORLD.min(kills.div_ceil(at_a_time)).max(1);
    let mut worlds = Vec::new();
    let mut left = kills;
    while left > 0 {
        let kills = of_a_world.min(left);
        worlds.push((worlds.len(), kills, chance.split()));
        left -= kills;
    }
    worlds.reverse();
    println!("seed {seed}: {kills} kills in {} worlds", worlds.len());
    let (all, worlds) = (Mutex::new(Suffered::default()), Mutex::new(worlds));
    // Each world has a thread of its own, so that one that fails takes down what is its own.
    let inhabit = || {
        while let Some((number, kills, chance)) = next(&worlds) {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let suffered = runtime.block_on(killed(kills, chance));
            let mut all = all.lock().unwrap();
            for (death, times) in suffered.deaths {
                *all.deaths.entry(death).or_default() += times;
            }
            all.counted += suffered.counted;
            let so_far: u64 = all.deaths.values().sum();
            let took = began.elapsed().as_secs();
            println!(
                "world {number}: {so_far} kills after {took} s; {:?}",
                all.counted
            );
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(inhabit);
        }
    });
    let all = all.into_inner().unwrap();
    for (death, times) in &all.deaths {
        println!("{times:>6} {death:?}");
    }
    let died: u64 = all.deaths.values().sum();
    assert_eq!(died, kills);
    println!(
        "seed {seed}: {died} kills survived in {} s; {:?}",
        began.elapsed().as_secs(),
        all.counted
    );
}

/// The next world, of which the lock is not held while it is lived in.
fn next<T>(worlds: &Mutex<Vec<T>>) -> Option<T> {
    worlds.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// A world whose gateway is killed so many times.
async fn killed(kills: u64, mut chance: Chance) -> Suffered {
    let world = World::new().await;
    let ended = Cell::new(false);
    let enough = || ended.get();
    let mut fate = chance.split();
    let [one, two, three, four] = std::array::from_fn(|_| chance.split());
    let mut people = pin!(async {
        tokio::join!(
            story::asking(&world, "asker", one, enough),
            story::asking(&world, "other-asker", two, enough),
            story::planning(&world, "ws-staging-app", three, enough),
            story::planning(&world, "ws-staging-db", four, enough),
        );
    });
    let mut suffered = Suffered::default();
    world.is_calm(false);
    for _ in 0..kills {
        let death = tokio::select! {
            death = one_life(&world, &mut fate) => death,
            () = &mut people => panic!("people stop before there were enough"),
        };
        *suffered.deaths.entry(death).or_default() += 1;
    }
    ended.set(true);
    world.is_calm(true);
    let mut process = world.start_for_good().await;
    people.await;
    suffered.counted = check::at_the_end(&world, kills).await;
    world.kill(&mut process).await;
    check::store_is_sound(&world);
    suffered
}

/// Starts a gateway and sees it die.
async fn one_life(world: &World, chance: &mut Chance) -> Death {
    let at_a_point = chance.below(2) == 0;
    let kill_at: Vec<String> = (0..ARMED)
        .map(|_| format!("{}:{}", chance.of(POINTS).name, 1 + chance.below(VISITS)))
        .collect();
    let kill_at = kill_at.join(",");
    let mut environment = Vec::new();
    if at_a_point {
        environment.push(("CLAWGATE_KILL_AT", kill_at.as_str()));
    }
    if chance.below(2) == 0 {
        environment.push(("CLAWGATE_SLOW_AT", SLOW_COMMITS));
    }
    let mut process = Process::start(&world.config_file, &environment, world.changed());
    if !at_a_point && chance.below(4) == 0 {
        sleep(Duration::from_millis(chance.below(STARTING))).await;
        world.kill(&mut process).await;
        return Death::Starting;
    }
    if !world.serves(&mut process).await {
        let point = process.ends().await;
        return Death::At(point.expect("only a kill point ends it"));
    }
    let commits = match at_a_point {
        true => FOR_A_POINT,
        false => chance.below(COMMITS),
    };
    let afterwards = Duration::from_millis(chance.below(AFTERWARDS));
    let life = async {
        let mut changed = world.changed().subscribe();
        let enough = *changed.borrow() + commits;
        let _ = timeout(FOR_COMMITS, changed.wait_for(|changes| *changes >= enough)).await;
        sleep(afterwards).await;
    };
    let living = async {
        // It may die in the middle of this.
        let _ = check::after_restart(world).await;
        std::future::pending::<()>().await;
    };
    let died = tokio::select! {
        point = process.ends() => Some(point),
        () = life => None,
        () = living => unreachable!(),
    };
    world.is_down();
    match died {
        Some(point) => Death::At(point.expect("only a kill point ends it")),
        None => {
            world.kill(&mut process).await;
            Death::Serving
        }
    }
}
