//! How fast this library is through the broker that is running: one-in-flight calls, calls in
//! flight, batched one-way messages. The service is a process of its own.
//!
//! `cargo run --release -p switchboard --example rates -- [calls|pipelined|one-way|large]`, with `SWITCHBOARD_SOCKET` set.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchboard::Board;

/// One of the measurements.
type Measure = fn(&Board) -> Result<(), Failed>;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    if std::env::args().any(|argument| argument == "serve") {
        return serve();
    }
    let board = Board::connect()?;
    let mut server = Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::piped()).spawn()?;
    board.wait_for("example.rates", Some(Duration::from_secs(5)))?;
    let all: [(&str, Measure); 4] =
        [("calls", calls), ("pipelined", pipelined), ("one-way", one_way), ("large", large)];
    let only = std::env::args().nth(1);
    let mut wanted = all.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name));
    let measured = wanted.try_for_each(|(_, measure)| measure(&board));
    server.kill()?;
    server.wait()?;
    measured
}

/// Echoes calls, counts messages; an empty call is answered by the count.
fn serve() -> Result<(), Failed> {
    let count = AtomicU64::new(0);
    let board = Board::connect()?;
    board.serve("example.rates").window(1024, 4 << 20).run(move |request| {
        if request.is_one_way() {
            count.fetch_add(1, Ordering::Relaxed);
        } else if request.payload().is_empty() {
            return Ok(count.load(Ordering::Relaxed).to_le_bytes().into());
        }
        Ok(request.take_payload())
    })?;
    Ok(())
}

fn percentile(sorted: &[Duration], of_thousand: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_thousand / 1000]
}

fn calls(board: &Board) -> Result<(), Failed> {
    let service = board.service("example.rates");
    let payload = [7; 64];
    let mut times = Vec::with_capacity(30_000);
    for _ in 0..30_000 {
        let begin = Instant::now();
        let reply = service.call(payload)?;
        times.push(begin.elapsed());
        assert!(reply[..] == payload);
    }
    times.sort_unstable();
    println!(
        "call 64 B: p50 {:?}, p99 {:?}, p99.9 {:?}",
        percentile(&times, 500),
        percentile(&times, 990),
        percentile(&times, 999)
    );
    Ok(())
}

fn pipelined(board: &Board) -> Result<(), Failed> {
    let service = board.service("example.rates");
    for depth in [64, 512] {
        let mut pipeline = service.pipeline(depth)?;
        let (mut submitted, mut ended, count) = (0u64, 0u64, 500_000u64);
        let mut payload = [7; 64];
        let begin = Instant::now();
        while ended < count {
            while !pipeline.is_full() && submitted < count {
                payload[..8].copy_from_slice(&submitted.to_le_bytes());
                pipeline.submit(submitted, &payload)?;
                submitted += 1;
            }
            pipeline.wait(|tag, reply| {
                assert!(reply.is_ok_and(|reply| reply[..8] == tag.to_le_bytes()));
                ended += 1;
            })?;
        }
        println!("{depth} calls in flight: {:.0} calls/s", count as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn one_way(board: &Board) -> Result<(), Failed> {
    let service = board.service("example.rates");
    let count = 5_000_000u64;
    let received = || -> Result<u64, Failed> { Ok(u64::from_le_bytes(service.call("")?[..8].try_into()?)) };
    let before = received()?;
    let begin = Instant::now();
    let mut batch = board.batch();
    for _ in 0..count {
        batch.send(&service, [7; 64])?;
    }
    batch.flush()?;
    while received()? < before + count {}
    println!("one way 64 B, batched: {:.0} messages/s", count as f64 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    for _ in 0..20_000 {
        service.send([7; 64])?;
    }
    println!("one way 64 B, plain: {:.0} messages/s", 20_000.0 / begin.elapsed().as_secs_f64());
    Ok(())
}

fn large(board: &Board) -> Result<(), Failed> {
    let service = Arc::new(board.service("example.rates"));
    let payload = vec![7; 1 << 20];
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let begin = Instant::now();
        let reply = service.call(&payload)?;
        times.push(begin.elapsed());
        assert_eq!(reply.len(), payload.len());
    }
    times.sort_unstable();
    println!("call 1 MiB: p50 {:?}, p99 {:?}", percentile(&times, 500), percentile(&times, 990));
    Ok(())
}
