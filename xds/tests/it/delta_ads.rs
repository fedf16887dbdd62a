//! Server and client over a unix socket.

use mesh_xds_proto::type_urls;

use crate::harness::{Agent, Proxy, set, soon};

const CDS: &str = type_urls::CLUSTER;
const EDS: &str = type_urls::ENDPOINT;
const LDS: &str = type_urls::LISTENER;
const RDS: &str = type_urls::ROUTE;
const SDS: &str = type_urls::SECRET;

#[tokio::test]
async fn a_new_proxy_gets_everything_in_order_and_then_only_changes() {
    let agent = Agent::start();
    agent.publish(&[(RDS, "r", "1"), (CDS, "c", "1"), (LDS, "l", "1"), (EDS, "e", "1"), (SDS, "s", "1")]);
    let mut proxy = Proxy::start(&agent, "node-1");
    proxy.hears(&["CDS +c=1", "EDS +e=1", "LDS +l=1", "SDS +s=1", "RDS +r=1"]).await;

    agent.publish(&[(RDS, "r", "2"), (CDS, "c", "1"), (LDS, "l", "1"), (EDS, "e", "1"), (SDS, "s", "1")]);
    proxy.hears(&["RDS +r=2"]).await;
    agent.publish(&[(RDS, "r2", "1"), (CDS, "c2", "1"), (LDS, "l", "1"), (EDS, "e", "1"), (SDS, "s", "1")]);
    proxy.hears(&["CDS +c2=1", "RDS +r2=1", "RDS -r", "CDS -c"]).await;
}

#[tokio::test]
async fn the_agent_learns_when_every_proxy_uses_a_revision() {
    let agent = Agent::start();
    let mut proxies = [Proxy::start(&agent, "node-1"), Proxy::start(&agent, "node-2")];
    for content in ["1", "2"] {
        let revision = agent.publish(&[(CDS, "c", content)]);
        for proxy in &mut proxies {
            proxy.hears(&[&format!("CDS +c={content}")]).await;
        }
        agent.settled(revision).await;
    }

    let version = agent.cache.snapshot().resources(CDS).unwrap()["c"].version.clone();
    let mut clients = agent.handle.clients();
    clients.sort_by(|left, right| left.node_id.cmp(&right.node_id));
    let ids: Vec<_> = clients.iter().map(|client| client.node_id.as_str()).collect();
    assert_eq!(ids, ["node-1", "node-2"]);
    for client in clients {
        assert_eq!(client.types[CDS].acked["c"], version);
        assert_eq!(client.settled, 2);
        assert_eq!(client.node_cluster, "millrace");
        assert_eq!(client.pid, Some(i32::try_from(std::process::id()).unwrap()));
    }
}

#[tokio::test]
async fn a_refused_resource_is_told_once_and_the_others_stay_applied() {
    let agent = Agent::start();
    agent.publish(&[(CDS, "bad", "poison"), (CDS, "good", "1")]);
    let mut proxy = Proxy::start(&agent, "node-1");
    proxy.hears(&["CDS +bad=poison +good=1"]).await;
    agent.settled(1).await;

    let rejections = agent.handle.rejections();
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].node_id, "node-1");
    assert_eq!(rejections[0].type_url, CDS);
    assert_eq!(rejections[0].name, "bad");
    assert_eq!(rejections[0].nack.message, "identifier: poison is refused");
    assert_eq!(proxy.held(), ["CDS good=1"]);

    // Were the refused version sent again, it would be heard before the change.
    agent.publish(&[(CDS, "bad", "poison"), (CDS, "good", "2")]);
    proxy.hears(&["CDS +good=2"]).await;
    let revision = agent.publish(&[(CDS, "bad", "better"), (CDS, "good", "2")]);
    proxy.hears(&["CDS +bad=better"]).await;
    agent.settled(revision).await;
    assert_eq!(agent.handle.rejections(), []);
}

/// What a proxy holds of a resource that it refused is for it to know: a server that goes back to the version
/// before hears nothing of it otherwise, and takes for served what is not.
#[tokio::test]
async fn a_resource_that_was_refused_is_sent_again_by_the_next_server() {
    let mut agent = Agent::start();
    agent.publish(&[(CDS, "c", "1"), (CDS, "d", "poison"), (CDS, "e", "1")]);
    let mut proxy = Proxy::start(&agent, "node-1");
    proxy.hears(&["CDS +c=1 +d=poison +e=1"]).await;
    agent.publish(&[(CDS, "c", "poison"), (CDS, "d", "poison"), (CDS, "e", "1")]);
    proxy.hears(&["CDS +c=poison"]).await;
    agent.settled(2).await;

    agent.stop().await;
    proxy.disconnected().await;
    agent.restart();
    let revision = agent.publish(&[(CDS, "c", "1"), (CDS, "e", "1")]);
    proxy.hears(&["CDS +c=1", "CDS -d"]).await;
    agent.settled(revision).await;
    assert_eq!(agent.handle.rejections(), []);
    assert_eq!(proxy.held(), ["CDS c=1", "CDS e=1"]);
}

#[tokio::test]
async fn the_last_good_configuration_outlives_the_server_and_is_not_sent_again() {
    let mut agent = Agent::start();
    agent.publish(&[(CDS, "c", "1"), (RDS, "r", "1")]);
    let mut proxy = Proxy::start(&agent, "node-1");
    proxy.hears(&["CDS +c=1", "RDS +r=1"]).await;
    agent.settled(1).await;

    agent.stop().await;
    proxy.disconnected().await;
    assert_eq!(proxy.held(), ["CDS c=1", "RDS r=1"]);

    // A new agent that has published nothing yet takes nothing away.
    agent.restart();
    proxy.connected().await;
    assert_eq!(proxy.held(), ["CDS c=1", "RDS r=1"]);
    let revision = agent.publish(&[(CDS, "c", "1"), (RDS, "r2", "1")]);
    proxy.hears(&["RDS +r2=1", "RDS -r"]).await;
    agent.settled(revision).await;
}

#[tokio::test]
async fn what_an_earlier_proxy_left_is_not_sent_again_and_what_is_gone_is_named() {
    let agent = Agent::start();
    agent.publish(&[(CDS, "same", "1"), (CDS, "gone", "1"), (CDS, "old", "1")]);
    let served = agent.cache.snapshot();
    let version = |name: &str| served.resources(CDS).unwrap()[name].version.clone();
    let held: Vec<_> = ["same", "gone", "old"].map(|name| (CDS, name, "1", version(name))).into();

    let revision = agent.publish(&[(CDS, "same", "1"), (CDS, "old", "2")]);
    let mut proxy = Proxy::start_holding(&agent, "node-1", &held);
    proxy.hears(&["CDS +old=2", "CDS -gone"]).await;
    agent.settled(revision).await;
    assert_eq!(proxy.held(), ["CDS old=2", "CDS same=1"]);
}

#[tokio::test]
async fn routes_follow_the_listeners_that_name_them() {
    let agent = Agent::start();
    agent.publish(&[(LDS, "l", "wants:web"), (RDS, "web", "1"), (RDS, "other", "1")]);
    let mut proxy = Proxy::start_following(&agent, "node-1");
    proxy.hears(&["LDS +l=wants:web", "RDS +web=1"]).await;

    agent.publish(&[(LDS, "l", "wants:later"), (RDS, "web", "1"), (RDS, "other", "1")]);
    proxy.hears(&["LDS +l=wants:later", "RDS -later"]).await;
    assert_eq!(proxy.held(), ["LDS l=wants:later"]);
    let revision = agent.publish(&[(LDS, "l", "wants:later"), (RDS, "web", "2"), (RDS, "later", "1")]);
    proxy.hears(&["RDS +later=1"]).await;
    agent.settled(revision).await;
    assert_eq!(proxy.held(), ["LDS l=wants:later", "RDS later=1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_proxy_gets_the_latest_state_instead_of_every_state() {
    let agent = Agent::start();
    agent.publish(&[(CDS, "c", "0")]);
    let (gate, mut proxy) = Proxy::start_gated(&agent, "node-1");
    proxy.hears(&["CDS +c=0"]).await;
    // The proxy is inside `apply` until the gate opens.
    let mut revision = 0;
    for content in 1..=100 {
        revision = agent.publish(&[(CDS, "c", &content.to_string())]);
    }
    drop(gate);
    agent.settled(revision).await;
    proxy.hears(&["CDS +c=100"]).await;
    proxy.hears_nothing_more();
}

#[tokio::test]
async fn large_sets_arrive_whole() {
    let agent = Agent::start();
    let content = "x".repeat(10_000);
    let names: Vec<String> = (0..500).map(|n| format!("c{n:03}")).collect();
    let resources: Vec<_> = names.iter().map(|name| (CDS, name.as_str(), content.as_str())).collect();
    let revision = agent.cache.publish(set(&resources)).revision;
    let proxy = Proxy::start(&agent, "node-1");
    agent.settled(revision).await;
    assert_eq!(proxy.held().len(), 500);
}

#[tokio::test]
async fn a_proxy_that_leaves_is_forgotten() {
    let agent = Agent::start();
    agent.publish(&[(CDS, "c", "1")]);
    let mut proxy = Proxy::start(&agent, "node-1");
    proxy.hears(&["CDS +c=1"]).await;
    agent.settled(1).await;
    let mut progress = agent.handle.progress();
    proxy.stop().await;
    soon(progress.wait_for(|progress| progress.clients() == 0)).await.unwrap();
    assert!(agent.handle.clients().is_empty());
}

#[tokio::test]
async fn more_streams_than_allowed_wait_for_a_place() {
    let agent = Agent::start_with(|config| config.max_streams = 1);
    agent.publish(&[(CDS, "c", "1")]);
    let mut first = Proxy::start(&agent, "node-1");
    first.hears(&["CDS +c=1"]).await;
    let mut second = Proxy::start(&agent, "node-2");
    let error = second.refused().await;
    assert!(error.contains("as many streams as allowed are open"), "{error}");
    first.stop().await;
    second.hears(&["CDS +c=1"]).await;
}
