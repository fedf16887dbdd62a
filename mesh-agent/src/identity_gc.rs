//! The operator's part in identities: those that nobody has any more go.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mesh_control_identity::{Action, Found, Timing, collect};
use mesh_k8s_api::{CiliumIdentity, Kind, Stored};
use mesh_k8s_reflect::{ApiState, Cause, Failure, ObjectWriter, Part};
use mesh_model::NamespacedName;
use serde_json::json;

/// When an identity was last seen in use.
const HEARTBEAT: &str = "io.cilium.heartbeat";

/// Collects identities.
pub(crate) struct IdentityCollector {
    /// To the cluster.
    pub(crate) writer: ObjectWriter,
    /// How long things take.
    pub(crate) timing: Timing,
}

impl IdentityCollector {
    /// Writes what is due now, as long as `may_write` says yes.
    pub(crate) async fn write(&self, state: &ApiState, now: Timestamp, may_write: impl Fn() -> bool) {
        let endpoints = state.objects.cilium_endpoints.values();
        let used: BTreeSet<u32> =
            endpoints.filter_map(|stored| u32::try_from(stored.object.status.identity.id).ok()).collect();
        let found: Vec<Found> =
            state.objects.cilium_identities.iter().filter_map(|(name, stored)| found(name, stored)).collect();
        for action in collect(&found, &used, now.as_second(), self.timing) {
            if !may_write() {
                return;
            }
            if let Err(failure) = self.act(state, action, now).await
                && !matches!(failure.cause, Cause::Conflict | Cause::Absent)
            {
                tracing::warn!(fix = failure.fix, "identities are not collected: {}", failure.message);
                return;
            }
        }
    }

    async fn act(&self, state: &ApiState, action: Action, now: Timestamp) -> Result<(), Failure> {
        match action {
            Action::Beat(number) => {
                let patch = json!({"metadata": {"annotations": {HEARTBEAT: format!("{now:.0}")}}});
                let name = NamespacedName::new("", number.to_string());
                self.writer.patch(Kind::CiliumIdentity, &name, Part::Object, &patch).await.map(drop)
            }
            Action::Delete(number) => {
                let name = number.to_string();
                let Some(stored) = state.objects.cilium_identities.get(&name) else { return Ok(()) };
                tracing::info!(identity = number, "nobody has this identity any more");
                self.writer.delete(Kind::CiliumIdentity, &NamespacedName::new("", name), &stored.uid).await
            }
        }
    }
}

/// `None` for one whose name is no number: somebody else's.
fn found(name: &str, stored: &Stored<CiliumIdentity>) -> Option<Found> {
    let annotations = stored.object.metadata.annotations.as_ref();
    let heartbeat = annotations.and_then(|all| all.get(HEARTBEAT)?.parse::<Timestamp>().ok());
    Some(Found {
        number: name.parse().ok()?,
        made: stored.created_ms / 1000,
        heartbeat: heartbeat.map(Timestamp::as_second),
    })
}
