//! Counters as OpenMetrics text and as JSON, with Envoy's names.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Unit};
use serde_json::{Value, json};

use super::{BUCKETS, ClusterCounters, Count, Durations, HttpCounters, PerThread, Registry, ThreadCounters};

/// A number read a moment ago.
#[derive(Debug)]
enum Reading {
    Counter(u64),
    Gauge(u64),
    Histogram { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

/// What one family says about its names.
struct Family {
    /// Envoy's. Where it ends in `_total` it is a counter to OpenMetrics as well; the other counters of Envoy
    /// have no type there, because OpenMetrics would put the ending on.
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    readings: Vec<(Vec<(&'static str, String)>, Reading)>,
}

type HttpField = (&'static str, &'static str, fn(&HttpCounters) -> &Count);
type ClusterField = (&'static str, &'static str, fn(&ClusterCounters) -> &Count);
type ThreadField = (&'static str, &'static str, fn(&ThreadCounters) -> &Count);

const HTTP: [HttpField; 10] = [
    ("envoy_http_downstream_cx_total", "Connections accepted", |c| &c.connections_opened),
    ("envoy_http_downstream_cx_ssl_total", "Connections with TLS", |c| &c.tls_connections),
    ("envoy_http_downstream_cx_ssl_fail_total", "Failed TLS handshakes", |c| &c.tls_failures),
    ("envoy_http_downstream_rq_total", "Requests", |c| &c.requests),
    ("envoy_http_downstream_cx_rx_bytes_total", "Body bytes received", |c| &c.bytes_received),
    ("envoy_http_downstream_cx_tx_bytes_total", "Body bytes sent", |c| &c.bytes_sent),
    ("envoy_http_downstream_cx_protocol_error", "Malformed requests", |c| &c.protocol_errors),
    ("envoy_http_downstream_rq_rx_reset", "Requests given up by the client", |c| &c.downstream_resets),
    ("envoy_http_downstream_cx_idle_timeout", "Connections closed for idleness", |c| &c.idle_timeouts),
    ("envoy_http_downstream_rq_header_timeout", "Connections closed for a slow head", |c| &c.header_timeouts),
];

const CLUSTER: [ClusterField; 13] = [
    ("envoy_cluster_upstream_cx_total", "Connections opened", |c| &c.connections_opened),
    ("envoy_cluster_upstream_cx_destroy", "Connections closed", |c| &c.connections_closed),
    ("envoy_cluster_upstream_cx_connect_fail", "Connection attempts that failed", |c| &c.connect_failures),
    ("envoy_cluster_upstream_cx_connect_timeout", "Connection attempts that took too long", |c| {
        &c.connect_timeouts
    }),
    ("envoy_cluster_upstream_cx_overflow", "Refused by the limit of connections", |c| &c.connection_overflow),
    ("envoy_cluster_upstream_rq_total", "Requests", |c| &c.requests),
    ("envoy_cluster_upstream_rq_pending_overflow", "Refused by the limit of requests", |c| {
        &c.request_overflow
    }),
    ("envoy_cluster_upstream_cx_none_healthy", "Requests without a usable endpoint", |c| &c.none_healthy),
    ("envoy_cluster_upstream_rq_retry", "Further attempts", |c| &c.retries),
    ("envoy_cluster_upstream_rq_timeout", "Requests that took too long", |c| &c.timeouts),
    ("envoy_cluster_upstream_rq_rx_reset", "Requests that the endpoint broke off", |c| &c.resets),
    ("envoy_cluster_upstream_cx_rx_bytes_total", "Body bytes received", |c| &c.bytes_received),
    ("envoy_cluster_upstream_cx_tx_bytes_total", "Body bytes sent", |c| &c.bytes_sent),
];

const THREAD: [ThreadField; 8] = [
    ("envoy_listener_downstream_cx_total", "Connections accepted", |c| &c.connections_opened),
    ("envoy_listener_downstream_cx_destroy", "Connections closed", |c| &c.connections_closed),
    ("envoy_listener_accept_error_total", "Failed accepts", |c| &c.accept_errors),
    (
        "envoy_listener_no_original_dst_total",
        "Redirected connections whose destination no listener owns",
        |c| &c.unknown_destination,
    ),
    ("envoy_listener_no_filter_chain_match", "Connections that fit no filter chain", |c| &c.no_filter_chain),
    (
        "envoy_listener_proxy_proto_error_total",
        "Connections whose PROXY protocol header is missing or bad",
        |c| &c.proxy_protocol_errors,
    ),
    ("envoy_listener_ssl_no_certificate_total", "TLS connections refused for a missing secret", |c| {
        &c.no_certificate
    }),
    ("millrace_access_log_dropped_total", "Access log lines dropped because the queue was full", |c| {
        &c.log_lines_dropped
    }),
];

const HTTP_LABEL: &str = "envoy_http_conn_manager_prefix";
const CLUSTER_LABEL: &str = "envoy_cluster_name";

impl Registry {
    fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        let (http, clusters) = (self.all_http(), self.all_clusters());
        for (name, help, field) in THREAD {
            let readings = vec![(Vec::new(), Reading::Counter(self.threads.sum(field)))];
            families.push(Family { name, help, label: None, readings });
        }
        for (name, help, field) in HTTP {
            let read = |(prefix, counters): &(Arc<str>, Arc<PerThread<HttpCounters>>)| {
                (vec![(HTTP_LABEL, prefix.to_string())], Reading::Counter(counters.sum(field)))
            };
            families.push(Family {
                name,
                help,
                label: Some(HTTP_LABEL),
                readings: http.iter().map(read).collect(),
            });
        }
        let active = |opened: u64, closed: u64| Reading::Gauge(opened.saturating_sub(closed));
        let mut http_gauge = |name, help, pick: fn(&PerThread<HttpCounters>) -> (u64, u64)| {
            let read = |(prefix, counters): &(Arc<str>, Arc<PerThread<HttpCounters>>)| {
                let (opened, closed) = pick(counters);
                (vec![(HTTP_LABEL, prefix.to_string())], active(opened, closed))
            };
            let readings = http.iter().map(read).collect();
            families.push(Family { name, help, label: Some(HTTP_LABEL), readings });
        };
        http_gauge("envoy_http_downstream_cx_active", "Open connections", |counters| {
            (counters.sum(|c| &c.connections_opened), counters.sum(|c| &c.connections_closed))
        });
        http_gauge("envoy_http_downstream_rq_active", "Requests under way", |counters| {
            (counters.sum(|c| &c.requests), counters.sum(|c| &c.requests_done))
        });
        let mut by_class = Vec::new();
        let mut times = Vec::new();
        for (prefix, counters) in &http {
            for class in 0..5 {
                let labels = vec![
                    ("envoy_response_code_class", (class + 1).to_string()),
                    (HTTP_LABEL, prefix.to_string()),
                ];
                by_class
                    .push((labels, Reading::Counter(counters.0.iter().map(|c| c.status[class].get()).sum())));
            }
            let all: Vec<&Durations> = counters.0.iter().map(|c| &c.durations).collect();
            times.push((vec![(HTTP_LABEL, prefix.to_string())], histogram(&all)));
        }
        families.push(Family {
            name: "envoy_http_downstream_rq_xx",
            help: "Responses by class of status",
            label: Some(HTTP_LABEL),
            readings: by_class,
        });
        families.push(Family {
            name: "envoy_http_downstream_rq_time",
            help: "Duration of requests in milliseconds",
            label: Some(HTTP_LABEL),
            readings: times,
        });
        for (name, help, field) in CLUSTER {
            let read = |(cluster, stats): &(Arc<str>, Arc<super::ClusterStats>)| {
                (vec![(CLUSTER_LABEL, cluster.to_string())], Reading::Counter(stats.counters.sum(field)))
            };
            let readings = clusters.iter().map(read).collect();
            families.push(Family { name, help, label: Some(CLUSTER_LABEL), readings });
        }
        let (mut by_class, mut times, mut cx_active, mut rq_active) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (cluster, stats) in &clusters {
            let counters = &stats.counters;
            for class in 0..5 {
                let labels = vec![
                    ("envoy_response_code_class", (class + 1).to_string()),
                    (CLUSTER_LABEL, cluster.to_string()),
                ];
                by_class
                    .push((labels, Reading::Counter(counters.0.iter().map(|c| c.status[class].get()).sum())));
            }
            let label = || vec![(CLUSTER_LABEL, cluster.to_string())];
            let all: Vec<&Durations> = counters.0.iter().map(|c| &c.durations).collect();
            times.push((label(), histogram(&all)));
            let (opened, closed) =
                (counters.sum(|c| &c.connections_opened), counters.sum(|c| &c.connections_closed));
            cx_active.push((label(), active(opened, closed)));
            rq_active
                .push((label(), active(counters.sum(|c| &c.requests), counters.sum(|c| &c.requests_done))));
        }
        for (name, help, readings) in [
            ("envoy_cluster_upstream_rq_xx", "Responses by class of status", by_class),
            ("envoy_cluster_upstream_rq_time", "Duration of requests in milliseconds", times),
            ("envoy_cluster_upstream_cx_active", "Open connections", cx_active),
            ("envoy_cluster_upstream_rq_active", "Requests under way", rq_active),
        ] {
            families.push(Family { name, help, label: Some(CLUSTER_LABEL), readings });
        }
        families
    }

    /// Appends everything in the OpenMetrics text format.
    pub(crate) fn render(self: &Arc<Self>, out: &mut String) {
        let mut registry = registry::Registry::default();
        registry.register_collector(Box::new(Readings(self.families())));
        // Fails only when the string does, which it does not.
        let _ = encode_registry(out, &registry);
    }

    /// The same numbers in the shape of Envoy's `/stats?format=json`.
    pub(crate) fn json(&self) -> Value {
        let mut stats = Vec::new();
        for family in self.families() {
            for (labels, reading) in &family.readings {
                let plain = family.name.trim_start_matches("envoy_");
                let (scope, rest) = plain.split_once('_').unwrap_or(("server", plain));
                let label = |wanted: Option<&str>| {
                    labels.iter().find(|(label, _)| Some(*label) == wanted).map(|(_, value)| value.as_str())
                };
                let mut name = match label(family.label) {
                    Some(value) => format!("{scope}.{value}.{rest}"),
                    None => format!("{scope}.{rest}"),
                };
                if let Some(class) = label(Some("envoy_response_code_class")) {
                    name = format!("{}{class}xx", name.trim_end_matches("xx"));
                }
                match reading {
                    Reading::Counter(value) | Reading::Gauge(value) => {
                        stats.push(json!({ "name": name, "value": value }));
                    }
                    Reading::Histogram { sum, count, .. } => {
                        stats.push(json!({ "name": name, "count": count, "sum": sum }));
                    }
                }
            }
        }
        json!({ "stats": stats })
    }
}

fn histogram(all: &[&Durations]) -> Reading {
    let mut buckets = Vec::with_capacity(BUCKETS.len() + 1);
    for (index, limit) in BUCKETS.into_iter().chain([f64::MAX]).enumerate() {
        buckets.push((limit, all.iter().map(|durations| durations.buckets[index].get()).sum()));
    }
    Reading::Histogram {
        sum: all.iter().map(|durations| durations.nanoseconds.get()).sum::<u64>() as f64 / 1e6,
        count: buckets.iter().map(|(_, count)| count).sum(),
        buckets,
    }
}

struct Readings(Vec<Family>);

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.iter().filter(|family| !family.readings.is_empty()) {
            let kind = match family.readings[0].1 {
                Reading::Counter(_) if family.name.ends_with("_total") => MetricType::Counter,
                Reading::Counter(_) => MetricType::Unknown,
                Reading::Gauge(_) => MetricType::Gauge,
                Reading::Histogram { .. } => MetricType::Histogram,
            };
            let name = family.name.strip_suffix("_total").unwrap_or(family.name);
            let mut metric = encoder.encode_descriptor(name, family.help, None::<&Unit>, kind)?;
            if family.label.is_none() {
                family.readings[0].1.encode_as(kind, metric)?;
                continue;
            }
            for (labels, reading) in &family.readings {
                reading.encode_as(kind, metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Reading {
    fn encode_as(&self, kind: MetricType, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Counter(value) if matches!(kind, MetricType::Counter) => {
                encoder.encode_counter::<NoLabelSet, u64, u64>(value, None)
            }
            Self::Counter(value) | Self::Gauge(value) => {
                encoder.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX))
            }
            Self::Histogram { sum, count, buckets } => {
                encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
        }
    }
}
