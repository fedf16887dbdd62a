//! `mesh-agent await-daemonset`: ends when every pod of a DaemonSet is ready. Helm itself waits for Jobs alone.

use std::time::Duration;

use anyhow::{Context, bail};
use mesh_k8s_reflect::Reader;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::args::AwaitOptions;
use crate::source::reflect_config;

/// How often it is asked for.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Until they are ready, or the time is over: then with what was still missing.
pub(crate) fn run(options: &AwaitOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(wait(options))
}

async fn wait(options: &AwaitOptions) -> anyhow::Result<()> {
    let AwaitOptions { name, namespace, within, cluster, .. } = options;
    let reader =
        Reader::new(reflect_config(cluster).server).await.context("cannot read from an API server")?;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}");
    let what = format!("get daemonsets.apps in {namespace}");
    let deadline = Instant::now() + *within;
    loop {
        let missing = match reader.get(&path, &what).await {
            Ok(daemonset) => missing(&daemonset),
            Err(failure) => Some(format!("{} ({})", failure.message, failure.fix)),
        };
        let Some(missing) = missing else {
            tracing::info!(namespace, name, "every pod is ready");
            return Ok(());
        };
        if Instant::now() > deadline {
            bail!("DaemonSet {namespace}/{name}: {missing}");
        }
        sleep(ASK_EVERY).await;
    }
}

/// What is missing; nothing when the controller has seen the newest version and every pod of it is ready.
fn missing(daemonset: &Value) -> Option<String> {
    let status = &daemonset["status"];
    if status["observedGeneration"] != daemonset["metadata"]["generation"]
        || status["observedGeneration"].is_null()
    {
        return Some("its controller has not looked at it yet".to_owned());
    }
    let count = |field: &str| status[field].as_u64().unwrap_or_default();
    let (wanted, updated, ready) =
        (count("desiredNumberScheduled"), count("updatedNumberScheduled"), count("numberReady"));
    (updated.min(ready) < wanted).then(|| format!("{} of {wanted} pods are ready", updated.min(ready)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::missing;

    #[test]
    fn pods_of_an_older_version_do_not_count() {
        let mut daemonset = json!({"metadata": {"generation": 2}, "status": {
            "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2,
        }});
        assert_eq!(missing(&daemonset), None);
        daemonset["status"]["updatedNumberScheduled"] = json!(1);
        assert_eq!(missing(&daemonset).as_deref(), Some("1 of 2 pods are ready"));
        daemonset["status"]["observedGeneration"] = json!(1);
        assert!(missing(&daemonset).is_some());
        assert!(missing(&json!({})).is_some());
    }
}
