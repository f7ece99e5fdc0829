//! Streams through the gateway: how much later the first byte comes, how fast a revocation cuts,
//! and whether memory stays where it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::gateway::Gateway;
use super::load::median;

/// Calls of which the first byte is timed, on each side.
const FIRST_BYTES: usize = 300;

/// Streams that a revocation has to cut.
const CUT: usize = 16;

/// Streams of the soak at a time.
const SOAKING: usize = 64;

/// Size of a request of the soak, in bytes: a long conversation.
const SOAK_BODY: usize = 150_000;

/// Events of one stream of the soak, and the pause before each.
const SOAK_EVENTS: usize = 20;
const SOAK_PAUSE: Duration = Duration::from_millis(10);

/// Pause between the events of a stream that does not end.
const ENDLESS_PAUSE: Duration = Duration::from_millis(20);

/// How long anybody waits for bytes here, so that a measurement that hangs ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token is replaced before its half hour is over.
const TOKEN_LIFE: Duration = Duration::from_secs(1200);

const EVENT: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
const END: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20}}\n\ndata: [DONE]\n\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What was measured.
#[derive(Debug)]
pub(super) struct Streams {
    /// Milliseconds that the first byte of a stream comes later than without the gateway, at one
    /// connection: the difference of the medians.
    pub(super) added_ttfb_ms: f64,
    /// Milliseconds from giving the command until the last of the streams was cut.
    pub(super) revocation_ms: f64,
}

/// What a soak came to.
#[derive(Debug)]
pub(super) struct Soak {
    /// How long it was.
    pub(super) length: Duration,
    /// Calls that were made to their end.
    pub(super) calls: u64,
    /// Memory of the gateway second by second.
    pub(super) memory: Memory,
}

/// Memory over the time of a soak, in MiB.
#[derive(Debug, PartialEq)]
pub(super) struct Memory {
    /// Median of the second fifth; the first is for warming up.
    pub(super) early_mib: f64,
    /// Median of the last fifth.
    pub(super) late_mib: f64,
    /// The most.
    pub(super) peak_mib: f64,
}

impl Memory {
    fn of(samples: &[f64]) -> Self {
        let fifth = (samples.len() / 5).max(1);
        let early = samples.iter().skip(fifth).take(fifth);
        let late = samples.iter().rev().take(fifth);
        Self {
            early_mib: median(early.copied()),
            late_mib: median(late.copied()),
            peak_mib: samples.iter().copied().fold(0.0, f64::max),
        }
    }

    /// Whether it stays where it is: a tenth and four MiB are what the allocator may move.
    pub(super) fn is_flat(&self) -> bool {
        self.late_mib <= self.early_mib * 1.1 + 4.0
    }
}

/// A provider of streams on loopback. The model's name says which: `endless`, `soak`, or one
/// event and the end.
pub(super) struct StandIn {
    /// Its port.
    pub(super) port: u16,
}

impl StandIn {
    /// Serves from threads of its own until the process ends.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that leaves ends its thread; nobody needs to hear of it.
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { port })
    }
}

fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let body = read_request(&mut stream, &mut buffer)?;
        let asks = |model: &str| body.starts_with(format!("{{\"model\":\"{model}\"").as_bytes());
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
              transfer-encoding: chunked\r\n\r\n",
        )?;
        if asks("endless") {
            loop {
                stream.write_all(&chunk(EVENT))?;
                thread::sleep(ENDLESS_PAUSE);
            }
        }
        stream.write_all(&chunk(EVENT))?;
        if asks("soak") {
            for _ in 1..SOAK_EVENTS {
                thread::sleep(SOAK_PAUSE);
                stream.write_all(&chunk(EVENT))?;
            }
        }
        stream.write_all(&chunk(END))?;
        stream.write_all(LAST_CHUNK)?;
    }
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Reads one request and gives its body; what follows stays in the buffer.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Vec<u8>> {
    loop {
        if let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length
                .context("a request without a length")?
                .trim()
                .parse()?;
            let end = head + 4 + length;
            while buffer.len() < end {
                more(stream, buffer)?;
            }
            let rest = buffer.split_off(end);
            let request = std::mem::replace(buffer, rest);
            return Ok(request[head + 4..].to_vec());
        }
        more(stream, buffer)?;
    }
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut piece = [0; 16 << 10];
    match stream.read(&mut piece)? {
        0 => bail!("the connection was closed"),
        read => buffer.extend_from_slice(&piece[..read]),
    }
    Ok(())
}

/// A client on one connection.
struct Client {
    stream: TcpStream,
    /// Of the last answer, as far as it was read.
    answer: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            answer: Vec::new(),
        })
    }

    /// Asks for a stream and waits for its first event.
    fn begin(&mut self, path: &str, token: &str, model: &str, bytes: usize) -> anyhow::Result<()> {
        let body = format!(
            "{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\
             \"content\":\"{}\"}}]}}",
            "word ".repeat(bytes / 5)
        );
        let head = format!(
            "POST {path}/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\nauthorization: Bearer {token}\r\n\
             x-clawgate-provider: streams\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.answer.clear();
        self.stream.write_all(&[head, body].concat().into_bytes())?;
        while !self.has(b"data: ") {
            more(&mut self.stream, &mut self.answer)?;
            if self.answer.len() > 12 && !self.answer.starts_with(b"HTTP/1.1 200") {
                bail!("refused: {}", String::from_utf8_lossy(&self.answer));
            }
        }
        Ok(())
    }

    /// Reads until the stream has its end. Only the last bytes are kept.
    fn finish(&mut self) -> anyhow::Result<()> {
        while !self.answer.ends_with(LAST_CHUNK) {
            let surplus = self.answer.len().saturating_sub(LAST_CHUNK.len());
            self.answer.drain(..surplus);
            more(&mut self.stream, &mut self.answer)?;
        }
        Ok(())
    }

    fn has(&self, text: &[u8]) -> bool {
        self.answer.windows(text.len()).any(|part| part == text)
    }
}

/// Measures first bytes and a revocation.
pub(super) fn measure(gateway: &Gateway, standin: &StandIn) -> anyhow::Result<Streams> {
    let token = gateway.token()?;
    let mut direct = Client::connect(standin.port)?;
    let mut through = Client::connect(gateway.port)?;
    let mut times = [Vec::new(), Vec::new()];
    // The first calls make connections and verify the token.
    for n in 0..FIRST_BYTES + 10 {
        let sides = [(&mut direct, "/v1"), (&mut through, "/openai/v1")];
        for ((client, path), times) in sides.into_iter().zip(&mut times) {
            let began = Instant::now();
            client.begin(path, &token, "quick", 1000)?;
            let first = began.elapsed().as_secs_f64() * 1e3;
            client.finish()?;
            if n >= 10 {
                times.push(first);
            }
        }
    }
    let [without, with] = times.map(|times| median(times.into_iter()));
    eprintln!("first byte: {without:.2} ms without, {with:.2} ms with the gateway");
    Ok(Streams {
        added_ttfb_ms: with - without,
        revocation_ms: revocation(gateway)?,
    })
}

/// Opens streams that do not end, revokes their token, and waits for the last to be cut.
fn revocation(gateway: &Gateway) -> anyhow::Result<f64> {
    let token = gateway.token()?;
    let (began, begins) = mpsc::channel();
    let port = gateway.port;
    let streams: Vec<_> = (0..CUT)
        .map(|_| {
            let (token, began) = (token.clone(), began.clone());
            thread::spawn(move || -> anyhow::Result<Instant> {
                let mut client = Client::connect(port)?;
                client.begin("/openai/v1", &token, "endless", 1000)?;
                began.send(())?;
                match client.finish() {
                    Ok(()) => bail!("a stream that was cut looks whole"),
                    Err(_) => Ok(Instant::now()),
                }
            })
        })
        .collect();
    drop(began);
    if begins.iter().take(CUT).count() < CUT {
        for stream in streams {
            stream
                .join()
                .expect("no panic above")
                .context("a stream did not begin")?;
        }
        bail!("a stream did not begin");
    }
    let asked = Instant::now();
    gateway.revoke(&token)?;
    let mut last = asked;
    for stream in streams {
        last = last.max(stream.join().expect("no panic above")?);
    }
    let again = Client::connect(port)?.begin("/openai/v1", &token, "quick", 10);
    match again {
        Err(refused) if refused.to_string().contains("HTTP/1.1 401") => {}
        other => bail!("the call after the revocation was not refused: {other:?}"),
    }
    let took = (last - asked).as_secs_f64() * 1e3;
    eprintln!("revocation: {CUT} streams cut within {took:.0} ms of the command");
    Ok(took)
}

/// Keeps streams open for so long, and watches the memory.
pub(super) fn soak(
    gateway: &Gateway,
    _standin: &StandIn,
    length: Duration,
) -> anyhow::Result<Soak> {
    let token = Mutex::new(gateway.token()?);
    let calls = AtomicU64::new(0);
    let until = Instant::now() + length;
    let current = || token.lock().map(|token| token.clone()).unwrap_or_default();
    let samples = thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let streams: Vec<_> = (0..SOAKING)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut client = Client::connect(gateway.port)?;
                    while Instant::now() < until {
                        client.begin("/openai/v1", &current(), "soak", SOAK_BODY)?;
                        client.finish()?;
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let mut samples = Vec::new();
        let mut renewed = Instant::now();
        while Instant::now() < until && !streams.iter().any(|stream| stream.is_finished()) {
            thread::sleep(Duration::from_secs(1));
            samples.push(gateway.process.resident_mib()?);
            if renewed.elapsed() > TOKEN_LIFE {
                renewed = Instant::now();
                let new = gateway.token()?;
                if let Ok(mut token) = token.lock() {
                    *token = new;
                }
            }
            if samples.len().is_multiple_of(60) {
                eprintln!(
                    "soak: {} min, {} calls, {:.1} MiB",
                    samples.len() / 60,
                    calls.load(Ordering::Relaxed),
                    samples.last().copied().unwrap_or_default()
                );
            }
        }
        for stream in streams {
            stream
                .join()
                .expect("no panic above")
                .context("a stream of the soak failed")?;
        }
        Ok(samples)
    })?;
    Ok(Soak {
        length,
        calls: calls.into_inner(),
        memory: Memory::of(&samples),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_flat_or_it_grows() {
        let warm_up = |n: usize| if n < 20 { n as f64 } else { 20.0 };
        let flat: Vec<f64> = (0..100).map(warm_up).collect();
        let memory = Memory::of(&flat);
        assert!(memory.is_flat());
        assert_eq!((memory.early_mib, memory.late_mib), (20.0, 20.0));
        let growing: Vec<f64> = (0..100).map(|n| 20.0 + n as f64 / 5.0).collect();
        assert!(!Memory::of(&growing).is_flat());
        let short = Memory::of(&[5.0, 6.0]);
        assert_eq!(short.peak_mib, 6.0);
        assert!(short.is_flat());
    }

    /// The client and the stand-in understand each other; what is cut is not taken for whole.
    #[test]
    fn streams_are_read_to_their_end() {
        let standin = StandIn::start().unwrap();
        let mut client = Client::connect(standin.port).unwrap();
        for model in ["quick", "soak", "quick"] {
            client.begin("/v1", "t", model, 10_000).unwrap();
            client.finish().unwrap();
        }
        client.begin("/v1", "t", "endless", 10).unwrap();
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(client.finish().is_err());
    }
}
