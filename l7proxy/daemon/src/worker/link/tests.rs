use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::{Channel, FromStarter, Refusal, RefusalKind, ToStarter};

use super::{Link, OPEN};

/// Questions that come within the patience of a test, `None` once none has come for a while.
fn next(starter: &mut Channel, patience: Duration) -> Option<u32> {
    let begun = Instant::now();
    loop {
        match starter.receive::<ToStarter>() {
            Ok(received) => return Some(received.expect("the link lives").message.id),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        if begun.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_questions_are_open_than_answers_have_room() {
    const QUESTIONS: usize = 400;
    let (ours, theirs) = Channel::pair().unwrap();
    let (link, handle, _events) = Link::new(Channel::new(ours), VecDeque::new()).unwrap();
    tokio::spawn(link.run());
    let asked: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.upstream_socket([192, 0, 2, 1].into(), 0).await })
        })
        .collect();
    let answers = tokio::task::spawn_blocking(move || {
        let mut starter = Channel::new(theirs);
        starter.set_nonblocking(true).unwrap();
        // A starter that has not answered yet is asked no more.
        let mut open: Vec<u32> = Vec::new();
        while open.len() < OPEN {
            open.push(next(&mut starter, Duration::from_secs(4)).expect("a question"));
        }
        assert_eq!(next(&mut starter, Duration::from_millis(200)), None);
        let mut answered = 0;
        while answered < QUESTIONS {
            for id in std::mem::take(&mut open) {
                let refusal = Refusal { kind: RefusalKind::Busy, message: "as agreed".to_owned() };
                // All that are open have room.
                starter.send(&FromStarter::Reply { id, outcome: Err(refusal) }, &[]).unwrap();
                answered += 1;
            }
            while answered + open.len() < QUESTIONS && open.len() < OPEN {
                open.push(next(&mut starter, Duration::from_secs(4)).expect("a question"));
            }
        }
        answered
    });
    assert_eq!(answers.await.unwrap(), QUESTIONS);
    for asked in asked {
        let error = asked.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("as agreed"), "{error}");
    }
}
