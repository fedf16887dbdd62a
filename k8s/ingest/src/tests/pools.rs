use mesh_model::address::AddressPool;
use serde_json::{Value, json};

use super::{notes, set};
use crate::{Ingested, ingest};

fn read(spec: Value) -> (AddressPool, Ingested) {
    let pool = json!({"kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "p"}, "spec": spec});
    let ingested = ingest(&set([pool]));
    (ingested.pools[0].clone(), ingested)
}

fn ranges(pool: &AddressPool) -> Vec<String> {
    pool.blocks.iter().map(|block| format!("{}-{}", block.first, block.last)).collect()
}

#[test]
fn blocks_are_read_in_every_form() {
    let blocks = json!([
        {"cidr": "192.0.2.5/28"}, {"cidr": "2001:db8:cafe::/124"}, {"cidr": "192.0.2.40/32"},
        {"start": "192.0.2.50", "stop": "192.0.2.60"}, {"start": "192.0.2.70"},
    ]);
    let (pool, ingested) = read(json!({"blocks": blocks}));
    assert_eq!(
        ranges(&pool),
        [
            "192.0.2.0-192.0.2.15",
            "2001:db8:cafe::-2001:db8:cafe::f",
            "192.0.2.40-192.0.2.40",
            "192.0.2.50-192.0.2.60",
            "192.0.2.70-192.0.2.70",
        ]
    );
    assert_eq!((pool.cidrs.len(), notes(&ingested)), (3, vec![]));
    let (pool, _) = read(json!({"blocks": blocks, "allowFirstLastIPs": "No"}));
    assert_eq!(
        ranges(&pool)[..3],
        ["192.0.2.1-192.0.2.14", "2001:db8:cafe::1-2001:db8:cafe::e", "192.0.2.40-192.0.2.40"]
    );
}

#[test]
fn a_bad_block_is_left_out_and_named() {
    let (pool, ingested) = read(json!({"blocks": [
        {"cidr": "192.0.2.0"}, {}, {"start": "x"}, {"start": "192.0.2.9", "stop": "192.0.2.1"},
        {"start": "192.0.2.9", "stop": "fd00::1"}, {"cidr": "192.0.2.0/30"},
    ]}));
    assert_eq!(ranges(&pool), ["192.0.2.0-192.0.2.3"]);
    let fields: Vec<_> = notes(&ingested).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        ["spec.blocks[0]", "spec.blocks[1]", "spec.blocks[2]", "spec.blocks[3]", "spec.blocks[4]"]
    );
}

#[test]
fn a_selector_is_flattened() {
    let (pool, _) = read(json!({"disabled": true, "serviceSelector": {
        "matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["2"]}, {"key": "c", "operator": "Exists"}],
    }}));
    assert!(pool.disabled);
    let matches = |labels: &[(&str, &str)]| {
        pool.selector.matches(&labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    };
    assert!(matches(&[("a", "1"), ("c", "")]));
    assert!(!matches(&[("a", "1")]));
    assert!(!matches(&[("a", "1"), ("b", "2"), ("c", "")]));
}
