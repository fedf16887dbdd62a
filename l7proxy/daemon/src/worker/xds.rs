//! The xDS client, on a thread of its own, and what it applies to.
//!
//! A thread, because the client's sink answers at once: while a change is compiled and its sockets
//! are opened, the client stands still, and must not keep the control runtime from doing that work.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::task::{Context, Poll, ready};
use std::thread;

use mesh_l7proxy_config::NamedResource;
use mesh_xds::client::{
    ApplyOutcome, Client, ClientConfig, ConfigSink, ConnectionStatus, DeltaResource, Subscription,
};
use mesh_xds_proto::type_urls;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::control::ChangeHandle;
use super::controller::{Held, WHOLE};

/// How the connection to the xDS server does. Shared with the admin socket.
#[derive(Clone)]
pub(super) struct XdsState {
    status: watch::Receiver<ConnectionStatus>,
}

impl XdsState {
    pub(super) fn is_connected(&self) -> bool {
        self.status.borrow().is_connected()
    }

    /// For `/server_info`.
    pub(super) fn report(&self) -> Value {
        match &*self.status.borrow() {
            ConnectionStatus::Connected { since } => {
                json!({ "connected": true, "for_s": since.elapsed().as_secs() })
            }
            ConnectionStatus::Disconnected { since, attempts, error } => json!({
                "connected": false,
                "for_s": since.elapsed().as_secs(),
                "attempts": attempts,
                "error": error,
            }),
        }
    }
}

/// A client that does not run yet.
pub(super) struct XdsClient {
    client: Client<Sink>,
}

/// The client's thread; dropped, it ends.
pub(super) struct XdsThread {
    _stop: oneshot::Sender<()>,
}

impl XdsClient {
    pub(super) fn new(config: ClientConfig, sink: Sink) -> (Self, XdsState) {
        let (client, status) = Client::new(config, sink);
        (Self { client }, XdsState { status })
    }

    /// Connects, and reconnects for ever, on a new thread.
    ///
    /// # Errors
    /// When there is no room for a thread.
    pub(super) fn start(self) -> io::Result<XdsThread> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("xds".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    never = self.client.run() => match never {},
                    // The sender is dropped, never used.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(XdsThread { _stop: stop })
    }
}

/// Applies what comes through the control task, and remembers what to ask for next.
pub(super) struct Sink {
    changes: ChangeHandle,
    /// By type, the names that others refer to.
    wanted: BTreeMap<&'static str, BTreeSet<String>>,
    restored: Restored,
    /// Names of listeners that were refused and serve now.
    served_late: mpsc::UnboundedReceiver<String>,
}

impl Sink {
    /// A sink for a store that holds this much already.
    pub(super) fn new(
        changes: ChangeHandle,
        held: Held,
        served_late: mpsc::UnboundedReceiver<String>,
    ) -> Self {
        Self { changes, wanted: held.wanted, restored: Restored::new(held.whole), served_late }
    }
}

impl ConfigSink for Sink {
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome {
        self.restored.heard(type_url, added.iter().map(|resource| &resource.name).chain(&removed));
        let upserts = added.into_iter().map(|resource| NamedResource {
            name: resource.name,
            version: resource.version,
            body: resource.body,
        });
        let Some(applied) = self.changes.apply(type_url, upserts.collect(), removed) else {
            // The worker is about to end and so is this client; nobody waits for the acknowledgement.
            return ApplyOutcome::default();
        };
        self.wanted = applied.wanted;
        let rejected = applied.rejected.into_iter().map(|rejected| {
            let message = match rejected.field.as_str() {
                "" => rejected.reason,
                field => format!("{field}: {}", rejected.reason),
            };
            (rejected.name, message)
        });
        ApplyOutcome { rejected: rejected.collect() }
    }

    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<(&'static str, String)> {
        match ready!(self.served_late.poll_recv(cx)) {
            Some(name) => Poll::Ready((type_urls::LISTENER, name)),
            // The worker ends.
            None => Poll::Pending,
        }
    }

    fn takes_patches(&self) -> bool {
        true
    }

    fn subscription(&self, type_url: &str) -> Subscription {
        if !WHOLE.contains(&type_url) {
            return Subscription::Names(self.wanted.get(type_url).cloned().unwrap_or_default());
        }
        match self.restored.to_ask(type_url) {
            Some(names) => Subscription::Names(names),
            None => Subscription::Wildcard,
        }
    }
}

/// Resources of the types that are subscribed to whole, which an earlier worker left and this
/// stream's server has not spoken of yet.
///
/// A server names what was removed only to those who say that they have it. So they are asked for by
/// name, next to `*`: it answers with each of them, or with its removal.
#[derive(Debug)]
struct Restored {
    by_type: BTreeMap<&'static str, Names>,
}

#[derive(Debug)]
struct Names {
    asked: BTreeSet<String>,
    unanswered: BTreeSet<String>,
}

impl Restored {
    fn new(whole: BTreeMap<&'static str, BTreeSet<String>>) -> Self {
        let mut by_type = BTreeMap::new();
        for (type_url, names) in whole {
            if !names.is_empty() {
                by_type.insert(type_url, Names { asked: names.clone(), unanswered: names });
            }
        }
        Self { by_type }
    }

    fn heard<'a>(&mut self, type_url: &str, names: impl Iterator<Item = &'a String>) {
        let Some(restored) = self.by_type.get_mut(type_url) else { return };
        for name in names {
            restored.unanswered.remove(name);
        }
        if restored.unanswered.is_empty() {
            self.by_type.remove(type_url);
        }
    }

    /// The subscription as long as answers are missing.
    fn to_ask(&self, type_url: &str) -> Option<BTreeSet<String>> {
        let mut names = self.by_type.get(type_url)?.asked.clone();
        names.insert("*".to_owned());
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::Restored;

    #[test]
    fn restored_resources_are_asked_for_until_each_was_answered() {
        let names = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut restored = Restored::new(BTreeMap::from([("listener", names), ("cluster", BTreeSet::new())]));
        let asked = Some(BTreeSet::from(["*".to_owned(), "a".to_owned(), "b".to_owned()]));
        assert_eq!(restored.to_ask("cluster"), None);
        assert_eq!(restored.to_ask("listener"), asked);
        restored.heard("listener", ["b".to_owned(), "new".to_owned()].iter());
        assert_eq!(restored.to_ask("listener"), asked);
        restored.heard("cluster", ["a".to_owned()].iter());
        assert_eq!(restored.to_ask("listener"), asked);
        restored.heard("listener", ["a".to_owned()].iter());
        assert_eq!(restored.to_ask("listener"), None);
    }
}
