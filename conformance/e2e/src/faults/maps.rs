//! BPF maps without room.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_ebpf_abi::{Addr, BackendValue, Be16, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey};
use mesh_ebpf_maps::{LoadBalancerMaps, MapTable, PinnedMaps};
use mesh_testkit::wait;

use super::world::{World, ensure_once, ensure_unharmed};
use super::{Length, Rig};

/// How long the agent may take to show what is wrong.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// From the first free row to a whole datapath: the longest wait of a refused row for its next try.
const RECOVERED_WITHIN: Duration = Duration::from_secs(15);
/// Slots of rows that this test makes belong to this service, which no agent gets to in its life.
const STRANGER: u32 = 0x7fff_0000;

pub(super) fn full(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(1, Duration::from_secs(30));
    let world = World::serving(rig)?;
    let traffic = world.traffic()?;
    let mut told = Vec::new();
    for _ in 0..rounds {
        for map in ["mr_services_v1", "mr_slots_v1", "mr_backends_v1"] {
            told.push(fill_and_free(&world, map).with_context(|| format!("map {map}"))?);
        }
    }
    let report = traffic.finish()?;
    told.push(report.to_string());
    ensure_unharmed(&world, &report).with_context(|| told.join("\n"))?;
    ensure_once(&world)?;
    Ok(told.join("\n"))
}

/// Takes all the room of a map, asks for more, looks at what is said, and gives the room back.
fn fill_and_free(world: &World, map: &str) -> anyhow::Result<String> {
    let mut maps = PinnedMaps::open(&world.stack.pin_root())?;
    let before = desired(&mut maps)?;
    let rows = take_all(&mut maps, map)?;
    // A Service with a backend of its own needs a row in each map.
    world.stack.write_manifest("75-more.yaml", MORE)?;
    let said = wait::until("the status names the map", SHOWN_WITHIN, || {
        let text = world.status_text()?;
        let line = text.lines().find(|line| line.contains(map)).map(str::to_owned);
        line.with_context(|| format!("the status says:\n{text}"))
    })?;
    let limit = match map {
        "mr_slots_v1" => "262144",
        _ => "65536",
    };
    ensure!(said.contains(limit), "no limit in: {said}");
    ensure!(said.contains("remove"), "no fix in: {said}");
    for entry in &before {
        ensure!(desired(&mut maps)?.contains(entry), "{entry:?} has gone");
    }
    give_back(&mut maps, map, rows)?;
    wait::until("the datapath is whole again", RECOVERED_WITHIN, || {
        let status = world.stack.ask("/v1/status")?;
        ensure!(status["healthy"] == true, "{status}");
        Ok(())
    })?;
    let all = desired(&mut maps)?;
    let more = ServiceKey::new(Addr::from(Ipv4Addr::new(10, 96, 0, 50)), Be16::new(80), Protocol::Tcp);
    ensure!(all.iter().any(|(key, _)| *key == more), "the new Service is not there: {all:?}");
    std::fs::remove_file(world.stack.manifests().join("75-more.yaml")).context("it was written")?;
    wait::until("the new Service goes", SHOWN_WITHIN, || {
        ensure!(!desired(&mut maps)?.iter().any(|(key, _)| *key == more), "it is still there");
        Ok(())
    })?;
    Ok(format!("{map}: {rows} rows taken; said: {}", said.trim()))
}

const MORE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: more, namespace: shop}
spec:
  clusterIPs: [10.96.0.50]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, targetPort: 9090}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: more-4, namespace: shop, labels: {kubernetes.io/service-name: more}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.13], conditions: {ready: true}}]
ports: [{name: http, port: 9090}]
";

/// Entries that are not this test's.
fn desired(maps: &mut PinnedMaps) -> anyhow::Result<Vec<(ServiceKey, ServiceValue)>> {
    let mut entries = maps.services().entries()?;
    entries.retain(|(_, value)| value.service < STRANGER);
    Ok(entries)
}

fn service_row(number: u32) -> (ServiceKey, ServiceValue) {
    let address = Addr::from(Ipv4Addr::from(0x6440_0000 + number));
    let key = ServiceKey::new(address, Be16::new(1), Protocol::Tcp);
    (key, ServiceValue { service: STRANGER + number, backends: 0, flags: ServiceFlags::NONE })
}

fn backend_row(number: u32) -> (u32, BackendValue) {
    let address = Addr::from(Ipv4Addr::from(0x6440_0000 + number));
    (STRANGER + number, BackendValue::active(address, Be16::new(1), Protocol::Tcp))
}

/// Fills a map to the last row; how many rows that took.
fn take_all(maps: &mut PinnedMaps, map: &str) -> anyhow::Result<u32> {
    let rows = match map {
        "mr_services_v1" => fill(maps.services(), service_row),
        "mr_slots_v1" => fill(maps.slots(), |slot| (SlotKey { service: STRANGER, slot }, 0)),
        _ => fill(maps.backends(), backend_row),
    };
    ensure!(rows > 60_000, "only {rows} rows fitted");
    Ok(rows)
}

fn fill<K, V>(table: &mut dyn MapTable<K, V>, row: impl Fn(u32) -> (K, V)) -> u32 {
    let mut rows = 0;
    loop {
        let (key, value) = row(rows);
        if table.insert(&key, &value).is_err() {
            return rows;
        }
        rows += 1;
    }
}

fn give_back(maps: &mut PinnedMaps, map: &str, rows: u32) -> anyhow::Result<()> {
    for number in 0..rows {
        match map {
            "mr_services_v1" => maps.services().remove(&service_row(number).0)?,
            "mr_slots_v1" => maps.slots().remove(&SlotKey { service: STRANGER, slot: number })?,
            _ => maps.backends().remove(&backend_row(number).0)?,
        };
    }
    Ok(())
}
