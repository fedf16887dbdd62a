//! A large route table that changes, in our own proxy's configuration at the other end of the socket.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_l7proxy_config::{ConfigStore, NamedResource};
use mesh_xds::client::{ApplyOutcome, Client, ClientConfig, ConfigSink, DeltaResource, Subscription};
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::route::{
    DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route, route_match,
};
use mesh_xds_proto::{Patch, type_urls};

use crate::harness::Agent;

#[derive(Default)]
struct Heard {
    store: ConfigStore,
    whole: usize,
    patches: usize,
}

/// Takes what comes; a patch that does not fit is refused, as in the proxy.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Heard>>);

impl ConfigSink for Sink {
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in &added {
            let patch = resource.body.type_url == Patch::TYPE_URL;
            *(if patch { &mut heard.patches } else { &mut heard.whole }) += 1;
        }
        let upserts = added.into_iter().map(|resource| NamedResource {
            name: resource.name,
            version: resource.version,
            body: resource.body,
        });
        let rejected = heard.store.apply(type_url, upserts.collect(), &removed);
        ApplyOutcome {
            rejected: rejected.into_iter().map(|rejected| (rejected.name, rejected.reason)).collect(),
        }
    }

    fn subscription(&self, type_url: &str) -> Subscription {
        match type_url {
            type_urls::ROUTE => Subscription::Names(["table".to_owned()].into()),
            _ => Subscription::Wildcard,
        }
    }

    fn takes_patches(&self) -> bool {
        true
    }
}

/// Two hosts with a route for each path.
fn tables(paths: &[String]) -> ResourceSet {
    let route = |path: &String| Route {
        name: path.clone(),
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Path(path.clone())),
            ..Default::default()
        }),
        action: Some(route::Action::DirectResponse(DirectResponseAction {
            status: 200,
            ..Default::default()
        })),
        ..Default::default()
    };
    let host = |name: &str| VirtualHost {
        name: name.to_owned(),
        domains: vec![name.to_owned()],
        routes: paths.iter().map(route).collect(),
        ..Default::default()
    };
    let table = RouteConfiguration {
        name: "table".to_owned(),
        virtual_hosts: vec![host("a.test"), host("b.test")],
        ..Default::default()
    };
    let mut set = ResourceSet::default();
    set.insert_message("table", &table);
    set
}

#[tokio::test]
async fn a_proxy_ends_with_the_very_bytes_that_are_served() {
    let mut agent = Agent::start();
    let mut paths: Vec<String> = (0..1000).map(|number| format!("/shop-{number}/items")).collect();
    agent.cache.publish(tables(&paths));
    let sink = Sink::default();
    let config = ClientConfig {
        socket: agent.socket().to_owned(),
        node_id: "node-1".to_owned(),
        node_cluster: "millrace".to_owned(),
    };
    let (client, _) = Client::new(config, sink.clone());
    let proxy = tokio::spawn(client.run());
    agent.settled(1).await;

    let same = |agent: &Agent| {
        let served = agent.cache.snapshot();
        let table = &served.resources(type_urls::ROUTE).unwrap()["table"];
        let mut whole = ConfigStore::new();
        let upsert = NamedResource {
            name: "table".to_owned(),
            version: table.version.clone(),
            body: table.body.clone(),
        };
        assert_eq!(whole.apply(type_urls::ROUTE, vec![upsert], &[]), []);
        assert_eq!(sink.0.lock().unwrap().store.export(), whole.export());
    };
    same(&agent);
    for change in 0..30 {
        match change % 3 {
            0 => paths.insert(change * 31, format!("/new-{change}")),
            1 => paths[change * 17] = format!("/changed-{change}"),
            _ => drop(paths.remove(change * 29)),
        }
        let revision = agent.cache.publish(tables(&paths)).revision;
        agent.settled(revision).await;
        same(&agent);
    }
    let (whole, patches) = {
        let heard = sink.0.lock().unwrap();
        (heard.whole, heard.patches)
    };
    assert_eq!((whole, patches), (1, 30));

    // Another agent knows no version before its first.
    agent.stop().await;
    agent.restart();
    paths.push("/later".to_owned());
    let revision = agent.cache.publish(tables(&paths)).revision;
    agent.settled(revision).await;
    same(&agent);
    assert_eq!(sink.0.lock().unwrap().whole, whole + 1);
    proxy.abort();
}
