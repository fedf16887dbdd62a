use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backend::Backend;
use crate::config::{ControlPlane, cluster, free_address, http_manager, listener, route};
use crate::harness::Proxy;
use crate::upgrade::ask_on;

/// The listener comes before the table that it changes to, as xDS has it.
#[test]
fn a_listener_that_goes_by_ever_other_tables_answers_every_request() {
    const CHANGES: usize = 40;
    /// Long enough for some requests between and during changes.
    const AT_LEAST: Duration = Duration::from_secs(2);
    let proxy = Proxy::start();
    let control_plane = ControlPlane::start(&proxy.run_dir());
    let (backend, listen) = (Backend::start("steady"), free_address());
    let going_by = |table: &str| {
        control_plane.publish(&[
            listener("web", listen, json!([{ "filters": [http_manager(table)] }])),
            route(table),
            cluster(table, backend.address),
        ]);
        assert_eq!(control_plane.rejections(), []);
    };
    going_by("first");
    let stop = AtomicBool::new(false);
    let answers: Vec<Result<usize, String>> = std::thread::scope(|scope| {
        let clients = [false, true, false].map(|reuse| {
            scope.spawn({
                let stop = &stop;
                move || ask_on(listen, reuse, stop)
            })
        });
        let begun = Instant::now();
        let mut change = 0;
        while change < CHANGES || begun.elapsed() < AT_LEAST {
            change += 1;
            going_by(&format!("table-{change}"));
        }
        going_by("last");
        stop.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap()).into()
    });
    for answer in &answers {
        assert!(answer.as_ref().is_ok_and(|count| *count > 10), "{answers:?}\n{}", proxy.log());
    }
    let dump = proxy.admin("/config_dump").1;
    assert!(dump.contains("\"last\"") && !dump.contains("table-"), "{dump}");
}
