//! The tasks of a load: when to ask, and what the outcome counts as.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use super::exchange::{CONNECT_WITHIN, Connection, Outcome, Wish};
use super::{Load, Shared, Target, lock};

/// Before the next try after one that failed at once: a broken server is not to be asked in a tight loop.
const BREATH: Duration = Duration::from_millis(5);
/// How long a number may be under way in a flow.
const FLOW_WITHIN: Duration = Duration::from_secs(10);

/// Starts the tasks of a load.
pub(super) fn start(load: Load, tally: &Shared, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) {
    match load {
        Load::Fresh { target, every } => {
            tasks.spawn(one_by_one(target, Wish::Echo, every, tally.clone(), stop.clone()));
        }
        Load::Download { target, bytes, over } => {
            let wish = Wish::Download(bytes, over);
            tasks.spawn(one_by_one(target, wish, BREATH, tally.clone(), stop.clone()));
        }
        Load::Kept { target, connections, every } => {
            for _ in 0..connections {
                tasks.spawn(kept(target.clone(), false, every, tally.clone(), stop.clone()));
            }
        }
        Load::Http2 { target, connections, every } => {
            for _ in 0..connections {
                tasks.spawn(kept(target.clone(), true, every, tally.clone(), stop.clone()));
            }
        }
        Load::Flow { to, every } => {
            tasks.spawn(flow(to, every, tally.clone(), stop.clone()));
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every.max(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A connection for each request.
async fn one_by_one(target: Target, wish: Wish, every: Duration, tally: Shared, stop: watch::Receiver<bool>) {
    let mut ticks = ticks(every);
    while !*stop.borrow() {
        ticks.tick().await;
        let wished = Instant::now();
        lock(&tally).sent += 1;
        let outcome = match Connection::open(target.to, false).await {
            Ok(mut connection) => {
                lock(&tally).connections += 1;
                connection.ask(&target, wish).await
            }
            Err(why) => Outcome::Refused(why),
        };
        let outcome = match outcome {
            // It was there, so it was accepted, or would have been.
            Outcome::NotSent => Outcome::Lost("a new connection ended before the request".to_owned()),
            other => other,
        };
        count(&tally, wished, outcome);
    }
}

/// One connection, as long as it lasts, then the next.
async fn kept(target: Target, http2: bool, every: Duration, tally: Shared, stop: watch::Receiver<bool>) {
    let mut ticks = ticks(every);
    let mut held: Option<Connection> = None;
    while !*stop.borrow() {
        ticks.tick().await;
        let wished = Instant::now();
        lock(&tally).sent += 1;
        loop {
            if *stop.borrow() {
                // Not a byte of it was written, and nobody waits for it any more.
                lock(&tally).sent -= 1;
                break;
            }
            let mut connection = match held.take() {
                Some(connection) if connection.is_open() => connection,
                ended => {
                    note_end(&tally, ended);
                    match Connection::open(target.to, http2).await {
                        Ok(connection) => {
                            lock(&tally).connections += 1;
                            connection
                        }
                        Err(why) => {
                            count(&tally, wished, Outcome::Refused(why));
                            tokio::time::sleep(BREATH).await;
                            break;
                        }
                    }
                }
            };
            let outcome = connection.ask(&target, Wish::Echo).await;
            held = Some(connection);
            match outcome {
                // Nothing was written: every client takes another connection then.
                Outcome::NotSent => tokio::time::sleep(BREATH).await,
                Outcome::Lost(why) => {
                    // Nothing may be told of it any more.
                    held = None;
                    lock(&tally).cut += 1;
                    count(&tally, wished, Outcome::Lost(why));
                    break;
                }
                other => {
                    count(&tally, wished, other);
                    break;
                }
            }
        }
    }
}

fn note_end(tally: &Shared, ended: Option<Connection>) {
    if ended.is_some_and(|connection| connection.was_cut()) {
        let mut tally = lock(tally);
        tally.cut += 1;
        tally.trouble("a kept connection ended without a word".to_owned());
    }
}

fn count(tally: &Shared, wished: Instant, outcome: Outcome) {
    let mut tally = lock(tally);
    let (counter, why) = match outcome {
        Outcome::Answered => return tally.answer(wished),
        Outcome::NotSent => return,
        Outcome::Failed(why) => (&mut tally.failed, why),
        Outcome::Wrong(why) => (&mut tally.wrong, why),
        Outcome::Refused(why) => (&mut tally.refused, why),
        Outcome::Lost(why) => (&mut tally.lost, why),
    };
    *counter += 1;
    tally.trouble(why);
}

/// A plain connection that carries numbers to and fro.
async fn flow(to: SocketAddr, every: Duration, tally: Shared, stop: watch::Receiver<bool>) {
    let mut ticks = ticks(every);
    let mut held: Option<TcpStream> = None;
    let mut number = 0_u64;
    while !*stop.borrow() {
        ticks.tick().await;
        let wished = Instant::now();
        lock(&tally).sent += 1;
        let mut stream = match held.take() {
            Some(stream) => stream,
            None => match timeout(CONNECT_WITHIN, TcpStream::connect(to)).await {
                Ok(Ok(stream)) => {
                    lock(&tally).connections += 1;
                    stream
                }
                Ok(Err(error)) => {
                    count(&tally, wished, Outcome::Refused(error.to_string()));
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
                Err(_) => {
                    count(&tally, wished, Outcome::Refused("no connection in time".to_owned()));
                    continue;
                }
            },
        };
        number += 1;
        let round = async {
            stream.write_all(&number.to_be_bytes()).await?;
            stream.read_u64().await
        };
        let outcome = match timeout(FLOW_WITHIN, round).await {
            Ok(Ok(back)) if back == number => {
                held = Some(stream);
                Outcome::Answered
            }
            Ok(Ok(back)) => Outcome::Wrong(format!("{number} came back as {back}")),
            Ok(Err(error)) => Outcome::Lost(error.to_string()),
            Err(_) => Outcome::Lost("no answer in time".to_owned()),
        };
        if held.is_none() {
            lock(&tally).cut += 1;
        }
        count(&tally, wished, outcome);
    }
}
