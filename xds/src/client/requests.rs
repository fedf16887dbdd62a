//! The requests of one stream: changes of subscriptions, ACKs and NACKs.

use std::collections::{BTreeMap, BTreeSet};

use mesh_xds_proto::{TAKES_PATCHES, core::Node, discovery::DeltaDiscoveryRequest, type_urls};

use super::{ApplyOutcome, ClientConfig, Subscription, versions::Versions};
use crate::server::rejection;

/// What this stream's server was told so far.
pub(super) struct Requests {
    /// Goes with the first request only.
    node: Option<Node>,
    told: BTreeMap<&'static str, Subscription>,
}

impl Requests {
    pub(super) fn new(config: &ClientConfig, takes_patches: bool) -> Self {
        let node = Node {
            id: config.node_id.clone(),
            cluster: config.node_cluster.clone(),
            user_agent_name: "millrace".to_owned(),
            client_features: takes_patches.then(|| TAKES_PATCHES.to_owned()).into_iter().collect(),
            ..Node::default()
        };
        Self { node: Some(node), told: BTreeMap::new() }
    }

    /// The requests that bring the server from what it was told to what is wanted now, in the order
    /// of the types.
    pub(super) fn subscribe(
        &mut self,
        wanted: impl Fn(&str) -> Subscription,
        versions: &mut Versions,
    ) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for type_url in type_urls::IN_ORDER {
            let wanted = wanted(type_url);
            versions.narrowed(type_url, &wanted);
            let told = self.told.get(type_url);
            let (had, has) = (told.map(names).unwrap_or_default(), names(&wanted));
            if had == has {
                continue;
            }
            requests.push(DeltaDiscoveryRequest {
                node: self.node.take(),
                type_url: type_url.to_owned(),
                resource_names_subscribe: has.difference(&had).cloned().collect(),
                resource_names_unsubscribe: had.difference(&has).cloned().collect(),
                initial_resource_versions: match told {
                    Some(_) => Default::default(),
                    None => versions.initial(type_url),
                },
                ..DeltaDiscoveryRequest::default()
            });
            self.told.insert(type_url, wanted);
        }
        requests
    }

    /// Asks for a resource that the server has spoken of already. The name is given up again by the next
    /// [`Self::subscribe`], unless it is wanted by itself.
    pub(super) fn again(&mut self, type_url: &'static str, name: String) -> DeltaDiscoveryRequest {
        let told = self.told.entry(type_url).or_insert_with(|| Subscription::Names(BTreeSet::new()));
        let mut names = names(told);
        names.insert(name.clone());
        *told = Subscription::Names(names);
        DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: type_url.to_owned(),
            resource_names_subscribe: vec![name],
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// The answer to a response.
    pub(super) fn answer(type_url: String, nonce: String, outcome: &ApplyOutcome) -> DeltaDiscoveryRequest {
        let refused = !outcome.rejected.is_empty();
        DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail: refused.then(|| rejection::status(&outcome.rejected)),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

/// As the protocol names them: everything is `*`.
fn names(subscription: &Subscription) -> BTreeSet<String> {
    match subscription {
        Subscription::Wildcard => BTreeSet::from(["*".to_owned()]),
        Subscription::Names(names) => names.clone(),
    }
}
