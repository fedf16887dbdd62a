//! What holds for every mesh: random ones, from printed seeds.

use std::collections::BTreeSet;

use fastrand::Rng;
use mesh_model::l7::{Action, MatchPrecedence, RouteMatch, RouteParent};
use mesh_model::{Hostname, Origin};
use mesh_xds::resolve::{Effective, EffectiveHost};

use crate::mesh::{
    Mesh, backend, exact, gateway, header, http_route, ingress, invalid_backend, on, on_service, plain,
    prefix, redirect, redirect_to, regex, route, rule, split, to,
};

const HOSTS: [&str; 8] =
    ["*", "*.test", "*.a.test", "a.test", "b.test", "x.a.test", "y.x.a.test", "*.x.a.test"];
const MESHES: u64 = 200;

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn random_match(rng: &mut Rng) -> RouteMatch {
    let path = pick(rng, &["/", "/a", "/a/b", "/c"]);
    let mut matches = match rng.u8(..4) {
        0 => exact(path),
        1 => regex(path),
        _ => prefix(path),
    };
    if rng.u8(..4) == 0 {
        matches.headers.push(header("x", pick(rng, &["1", "2"])));
    }
    if rng.u8(..4) == 0 {
        matches.method = Some("GET".to_owned());
    }
    matches
}

fn random_action(rng: &mut Rng) -> Action {
    match rng.u8(..5) {
        0 => Action::Redirect(redirect_to(pick(rng, &[None, Some("https")]), pick(rng, &[None, Some(81)]))),
        1 => split(vec![backend("default/s1:80", rng.u32(..3)), invalid_backend(rng.u32(..3))]),
        2 => to("default/s1:80"),
        _ => to("default/s0:80"),
    }
}

/// Gateways and Ingresses on a few addresses, routes on their listeners and on Services.
fn random_mesh(rng: &mut Rng) -> Mesh {
    let mut mesh = Mesh::default().service("default/s0", 80, &["10.96.0.1", "fd00::1"]).service(
        "default/s1",
        80,
        &["203.0.113.1"],
    );
    let mut parents: Vec<(Origin, RouteParent)> = Vec::new();
    for index in 0..rng.usize(1..5) {
        let name = format!("default/o{index}");
        let owner = if rng.bool() { gateway(&name) } else { ingress(&name, rng.i64(0..3)) };
        if rng.u8(..6) > 0 {
            let all = ["203.0.113.1", "203.0.113.2", "2001:db8::1"];
            mesh = mesh.assign(&owner, &all[..rng.usize(1..=3)]);
        }
        for section in 0..rng.usize(1..4) {
            let section = format!("l{section}");
            let (host, port) = (pick(rng, &HOSTS), pick(rng, &[80, 443, 8080, 81]));
            mesh = if rng.bool() {
                mesh.listener(&owner, &section, port, host)
            } else {
                mesh.tls(&owner, &section, port, host, pick(rng, &["default/c0", "default/c1"]))
            };
            parents.push((owner.clone(), on(&owner, &section)));
        }
    }
    for index in 0..rng.usize(..8) {
        let origin = http_route(&format!("default/r{index}"), rng.i64(0..3));
        let mut chosen: Vec<RouteParent> =
            (0..rng.usize(1..3)).map(|_| parents[rng.usize(..parents.len())].1.clone()).collect();
        if rng.u8(..4) == 0 {
            chosen.push(on_service(pick(rng, &["default/s0", "default/s1", "default/none"]), 80));
        }
        chosen.sort();
        chosen.dedup();
        let hosts: Vec<&str> = (0..rng.usize(..3)).map(|_| pick(rng, &HOSTS)).collect();
        let rules = (0..rng.usize(1..4))
            .map(|_| rule((0..rng.usize(1..3)).map(|_| random_match(rng)).collect(), random_action(rng)))
            .collect();
        let mut row = route(&origin, &chosen, &hosts, rules);
        if rng.bool() {
            row.precedence = MatchPrecedence::Ingress;
            row.wildcard_one_label = true;
        }
        mesh = mesh.route(row);
    }
    mesh.certificate("default/c0").bad_certificate("default/c1")
}

pub(crate) fn for_each_mesh(mut check: impl FnMut(&mut Rng, Mesh, u64)) {
    for seed in 0..MESHES {
        let mut rng = Rng::with_seed(seed);
        let mesh = random_mesh(&mut rng);
        check(&mut rng, mesh, seed);
    }
}

#[test]
fn the_order_of_rows_changes_nothing() {
    for_each_mesh(|rng, mesh, seed| {
        let mut shuffled = mesh.clone();
        rng.shuffle(&mut shuffled.fragments.listeners);
        rng.shuffle(&mut shuffled.fragments.routes);
        rng.shuffle(&mut shuffled.fragments.claims);
        for config in [redirect(), plain()] {
            assert!(mesh.resolve(&config) == shuffled.resolve(&config), "seed {seed}");
            assert!(mesh.lower(&config) == shuffled.lower(&config), "seed {seed}");
        }
    });
}

fn hosts(effective: &Effective) -> Vec<(&str, &EffectiveHost)> {
    let tables = effective.route_tables.iter();
    tables.flat_map(|table| table.hosts.iter().map(|host| (table.name.as_str(), host))).collect()
}

#[test]
fn removing_a_route_leaves_hosts_that_it_does_not_cover_as_they_are() {
    for_each_mesh(|rng, mesh, seed| {
        if mesh.fragments.routes.is_empty() {
            return;
        }
        let mut without = mesh.clone();
        let removed = without.fragments.routes.remove(rng.usize(..without.fragments.routes.len()));
        let covered = |host: &Hostname| {
            removed.hostnames.is_empty() || removed.hostnames.iter().any(|h| h.intersect(host).is_some())
        };
        let (before, after) = (mesh.resolve(&redirect()), without.resolve(&redirect()));
        let of_others = |effective| -> Vec<(&str, &EffectiveHost)> {
            hosts(effective).into_iter().filter(|(_, host)| !covered(&host.host)).collect()
        };
        assert!(of_others(&before) == of_others(&after), "seed {seed}");
    });
}

#[test]
fn no_address_host_or_match_has_two_owners() {
    for_each_mesh(|_, mesh, seed| {
        for config in [redirect(), plain()] {
            let effective = mesh.resolve(&config);
            let mut names = BTreeSet::new();
            let mut addresses = BTreeSet::new();
            for listener in &effective.listeners {
                assert!(names.insert(&listener.name), "seed {seed}: {}", listener.name);
                assert!(listener.addresses.iter().all(|a| addresses.insert(*a)), "seed {seed}");
                let mut server_names = BTreeSet::new();
                for chain in &listener.chains {
                    assert!(
                        effective.route_tables.iter().any(|t| t.name == chain.route_table),
                        "seed {seed}"
                    );
                    let of_chain = chain.tls.iter().flat_map(|tls| &tls.hosts);
                    assert!(of_chain.into_iter().all(|h| server_names.insert(h)), "seed {seed}");
                }
            }
            let mut seen = BTreeSet::new();
            for (table, host) in hosts(&effective) {
                assert!(seen.insert((table, &host.host)), "seed {seed}");
                for list in [Some(&host.routes), host.deeper.as_ref()].into_iter().flatten() {
                    let matches: BTreeSet<&RouteMatch> = list.iter().map(|r| r.matches.as_ref()).collect();
                    assert_eq!(matches.len(), list.len(), "seed {seed}");
                }
            }
        }
    });
}

#[test]
fn every_condition_is_about_an_object_of_the_input() {
    for_each_mesh(|_, mesh, seed| {
        let rows = mesh.fragments.listeners.iter().map(|listener| &listener.origin);
        let objects: BTreeSet<_> =
            rows.chain(mesh.fragments.routes.iter().map(|r| &r.origin)).map(|o| &o.object).collect();
        for config in [redirect(), plain()] {
            for condition in mesh.resolve(&config).conditions {
                assert!(objects.contains(&condition.origin.object), "seed {seed}: {condition:?}");
            }
        }
    });
}
