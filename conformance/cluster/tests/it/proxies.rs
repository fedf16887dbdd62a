//! The chart's pods: replaced while what they made serves.

use std::time::Duration;

use anyhow::ensure;
use mesh_conformance_cluster::chart::{self, Chart, NAMESPACE};
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::wait;

use crate::fixture::{Own, Pods, spec};
use crate::served::Served;

const WITHIN: Duration = Duration::from_secs(180);
const PROXIES: &str = "--selector=app.kubernetes.io/name=millrace-proxy";

#[test]
#[ignore = "needs a cluster"]
fn cluster_proxies_and_agents_that_are_replaced_under_traffic_cost_no_request() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("proxies", 2, IpFamily::Ipv4) });
    let cluster = own.up();
    let chart = Chart::from_environment().expect("a chart");
    chart.load_images(&cluster).expect("images");
    chart.install(&cluster, &[], WITHIN).expect("installed");
    let pods = Pods::new(&cluster, "it");
    let mut served = Served::new(&cluster, &pods, chart::state);
    let traffic = served.under_traffic();

    let names = || {
        let list = cluster.kubectl(&["get", "pods", "--namespace", NAMESPACE, PROXIES, "--output=name"]);
        let list = list.expect("a list");
        list.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for round in ["first", "second"] {
        let before = names();
        let restart = ["rollout", "restart", "daemonset/millrace-proxy", "--namespace", NAMESPACE];
        cluster.kubectl(&restart).expect("asked for");
        chart::wait(&cluster, WITHIN).unwrap_or_else(|error| panic!("{error:#}\n{}", chart::state(&cluster)));
        // Those of before finish what is open, and are gone.
        wait::until("the proxies of before are gone", WITHIN, || {
            let now = names();
            ensure!(now.len() == 2 && !now.iter().any(|name| before.contains(name)), "{now:?}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", chart::state(&cluster)));
        served.takes_a_change(round);
    }
    // The agents too: all that the release has, and back.
    chart.install(&cluster, &["MTU=1400".to_owned()], WITHIN).expect("upgraded");
    served.takes_a_change("upgraded");
    chart::roll_back(&cluster, 1, WITHIN).expect("rolled back");
    served.takes_a_change("back");
    served.nothing_was_lost(traffic);
}
