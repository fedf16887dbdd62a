//! Watches the proxy's processes, and tells who came and who died.

use std::sync::Arc;
use std::time::Duration;

use mesh_l7proxy_wire::StarterClient;

use crate::changes;
use crate::processes::serving;
use crate::proxy::ProxyProcess;
use crate::view::View;

/// How often the starter is asked while a worker serves.
const EVERY: Duration = Duration::from_secs(1);
/// The same while none does: somebody waits for it.
const EVERY_WITHOUT_WORKER: Duration = Duration::from_millis(100);

/// Asks the starter again and again, and tells what changed. Never returns; dropped at any time.
pub(crate) async fn watch(proxy: ProxyProcess, view: Arc<View>) {
    loop {
        let socket = proxy.socket();
        let asked = tokio::task::spawn_blocking(move || StarterClient::connect(&socket)?.status()).await;
        let status = asked.ok().and_then(Result::ok).map(Arc::new);
        let is_serving = status.as_deref().is_some_and(|status| serving(status).is_some());
        let before = view.processes.swap(status.clone());
        for happened in changes::processes(before.as_deref(), status.as_deref()) {
            view.events.record(happened);
        }
        tokio::time::sleep(if is_serving { EVERY } else { EVERY_WITHOUT_WORKER }).await;
    }
}
