use std::time::{Duration, Instant};

use clap::Parser;
use mesh_l7proxy_wire::{Channel, FromStarter, Request, StarterClient, ToStarter, WorkerState};

use super::{RunDirectory, Starter, StarterOptions, block_signals};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: StarterOptions,
}

/// More than fit the socket in one direction, and fewer than in both.
const QUESTIONS: u32 = 400;

#[test]
fn a_worker_that_reads_late_lives_and_gets_every_answer_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let arguments = ["l7proxy", "--drain-timeout", "0s", "--run-dir", run_dir.to_str().unwrap()];
    let options = Arguments::parse_from(arguments).options;
    let (ours, theirs) = Channel::pair().unwrap();
    let run_directory = RunDirectory::open(&options).unwrap().expect("nobody has it");
    let starter = std::thread::spawn(move || {
        // The signals are of this thread, which is the only one to be told.
        let mut starter = Starter::new(options, block_signals().unwrap(), run_directory);
        starter.workers.be_served_by(Channel::new(ours));
        starter.run().unwrap();
    });
    let mut worker = Channel::new(theirs);
    for id in 1..=QUESTIONS {
        let request = Request::UpstreamSocket { local: [192, 0, 2, 1].into(), mark: 0 };
        worker.send(&ToStarter { id, request }, &[]).unwrap();
    }
    let mut operator = StarterClient::connect(&run_dir.join("starter.sock")).unwrap();
    let status = operator.status().unwrap();
    assert_eq!((status.workers.len(), status.workers[0].state), (1, WorkerState::Serving));
    for expected in 1..=QUESTIONS {
        let received = worker.receive::<FromStarter>().unwrap().expect("the starter does not hang up");
        match received.message {
            FromStarter::Reply { id, .. } => assert_eq!(id, expected),
            FromStarter::Event(event) => panic!("{event:?}"),
        }
    }
    assert_eq!(operator.status().unwrap().workers.len(), 1);
    operator.shutdown().unwrap();
    let told = worker.receive::<FromStarter>().unwrap().expect("the word to drain");
    assert!(matches!(told.message, FromStarter::Event(_)), "{told:?}");
    drop(worker);
    // It is killed after its time, and the starter ends.
    let asked = Instant::now();
    starter.join().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(20));
}
