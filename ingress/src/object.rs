//! One Ingress of ours to its rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use mesh_k8s_api::networking::{Ingress, IngressRule, IngressSpec};
use mesh_model::address::AddressClaim;
use mesh_model::l7::{
    Action, Fragments, HeaderMutation, Listener, ListenerKey, ListenerProtocol, ListenerTls, MatchPrecedence,
    PathMatch, Redirect, Route, RouteMatch, RouteParent, Rule, Timeouts,
};
use mesh_model::{Hostname, Origin};

use crate::annotations::Settings;
use crate::report::{Effect, Report};
use crate::tls::{self, Secrets, TlsHost};
use crate::{Config, Input, Mode, backend, host, path};

/// Group that shares the addresses of all Ingresses in shared mode, named like Cilium's Service for them.
const SHARED: &str = "cilium-ingress";
const HTTP: &str = "http";

/// Makes the rows of an Ingress that is ours. What cannot be served is left out and reported.
pub(crate) fn translate(
    ingress: &Ingress,
    origin: &Origin,
    input: &Input<'_>,
    config: &Config,
    report: &mut Report,
) -> Fragments {
    let no_annotations = BTreeMap::new();
    let annotations = ingress.metadata.annotations.as_ref().unwrap_or(&no_annotations);
    let settings = Settings::read(annotations, config, report);
    let no_spec = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&no_spec);
    let reader = Reader { origin, namespace: &origin.object.name.namespace, input, settings: &settings };
    // Whatever is served now: an Ingress whose Service is away for a moment has its address when that is back.
    let nothing_but_an_address = Fragments { claims: vec![reader.claim(ingress)], ..Fragments::default() };
    if let Some(field) = &settings.tls_passthrough {
        // Ending TLS, or serving in clear, what was to be passed through would break the owner's intent.
        report.add(
            Effect::Refused,
            field,
            "UnsupportedValue",
            "TLS passthrough is not supported yet, so nothing of the Ingress is served; remove the annotation to have TLS end here"
                .to_owned(),
        );
        return nothing_but_an_address;
    }
    let planned = reader.plan_routes(spec, report);
    if planned.is_empty() {
        return nothing_but_an_address;
    }
    let secrets = Secrets {
        namespace: reader.namespace,
        default: config.default_secret.as_ref(),
        certificates: input.certificates,
    };
    let mut tls = tls::read(spec.tls.as_deref().unwrap_or_default(), secrets, report);
    drop_unused_tls(&mut tls, &planned, report);
    Fragments {
        listeners: reader.listeners(&tls, config),
        routes: reader.routes(planned, &tls),
        ..nothing_but_an_address
    }
}

/// The paths of one host of one entry of `spec.rules`, or the default backend.
struct PlannedRoute {
    field: String,
    host: Hostname,
    rules: Vec<Rule>,
}

struct Reader<'a> {
    origin: &'a Origin,
    namespace: &'a str,
    input: &'a Input<'a>,
    settings: &'a Settings,
}

impl Reader<'_> {
    fn plan_routes(&self, spec: &IngressSpec, report: &mut Report) -> Vec<PlannedRoute> {
        let mut planned = Vec::new();
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            planned.extend(self.plan_rule(rule, &format!("spec.rules[{index}]"), report));
        }
        report_duplicates(&planned, report);
        if let Some(default) = &spec.default_backend {
            let field = "spec.defaultBackend";
            let action = backend::action(default, self.namespace, field, self.input.services, report);
            let rule = self.rule(field.to_owned(), PathMatch::default(), action);
            if self.settings.mode == Mode::Dedicated {
                append_default(&mut planned, &rule);
            }
            planned.push(PlannedRoute { field: field.to_owned(), host: Hostname::Any, rules: vec![rule] });
        }
        planned
    }

    fn plan_rule(&self, rule: &IngressRule, field: &str, report: &mut Report) -> Option<PlannedRoute> {
        let host = match host::parse(rule.host.as_deref().unwrap_or_default()) {
            Ok(host) => host,
            Err(message) => {
                report.add(Effect::Refused, &format!("{field}.host"), "InvalidHost", message);
                return None;
            }
        };
        let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() {
            report.add(
                Effect::Refused,
                &format!("{field}.http.paths"),
                "NoPaths",
                "is empty, so the rule serves nothing; add a path or remove the rule".to_owned(),
            );
            return None;
        }
        let mut rules = Vec::new();
        for (index, entry) in paths.iter().enumerate() {
            let field = format!("{field}.http.paths[{index}]");
            match path::path_match(entry) {
                Ok(matched) => {
                    let at = format!("{field}.backend");
                    let action =
                        backend::action(&entry.backend, self.namespace, &at, self.input.services, report);
                    rules.push(self.rule(field, matched, action));
                }
                Err(error) => {
                    let at = format!("{field}{}", error.field);
                    report.add(Effect::Refused, &at, "InvalidPath", error.message);
                }
            }
        }
        (!rules.is_empty()).then(|| PlannedRoute { field: field.to_owned(), host, rules })
    }

    fn rule(&self, field: String, path: PathMatch, action: Action) -> Rule {
        Rule {
            field,
            matches: vec![RouteMatch { path, ..RouteMatch::default() }],
            request_headers: HeaderMutation::default(),
            response_headers: HeaderMutation::default(),
            action,
            timeouts: Timeouts { request: self.settings.request_timeout, backend_request: None },
        }
    }

    fn listeners(&self, tls: &BTreeMap<Hostname, TlsHost>, config: &Config) -> Vec<Listener> {
        let mut listeners = vec![Listener {
            key: self.key(HTTP.to_owned()),
            origin: self.origin.at("spec"),
            port: 80,
            protocol: ListenerProtocol::Http,
            hostname: Hostname::Any,
            tls: None,
            trusted_hops: config.trusted_hops,
        }];
        for (host, entry) in tls.iter().filter(|(_, entry)| !entry.certificates.is_empty()) {
            listeners.push(Listener {
                key: self.key(section(host)),
                origin: self.origin.at(&entry.field),
                port: 443,
                protocol: ListenerProtocol::Https,
                hostname: host.clone(),
                tls: Some(ListenerTls { certificates: entry.certificates.clone() }),
                trusted_hops: config.trusted_hops,
            });
        }
        listeners
    }

    /// Hangs each planned route from the listeners that serve its host, and adds the redirect to HTTPS.
    /// A TLS host without a usable certificate keeps its redirect: what was to be encrypted is not served
    /// in clear because a Secret is missing.
    fn routes(&self, planned: Vec<PlannedRoute>, tls: &BTreeMap<Hostname, TlsHost>) -> Vec<Route> {
        let mut routes = Vec::new();
        let mut redirected: BTreeSet<Hostname> = BTreeSet::new();
        for route in planned {
            let mut parents = Vec::new();
            let mut plain = true;
            for (tls_host, entry) in tls {
                let Some(common) = host::narrower(&route.host, tls_host) else { continue };
                if !entry.certificates.is_empty() {
                    parents.push(RouteParent::Listener(self.key(section(tls_host))));
                }
                if self.settings.force_https {
                    plain &= !host::covers(tls_host, &route.host);
                    redirected.insert(common);
                }
            }
            if plain {
                parents.push(RouteParent::Listener(self.key(HTTP.to_owned())));
            }
            parents.sort_unstable();
            if !parents.is_empty() {
                routes.push(self.route(&route.field, parents, hostnames([route.host]), route.rules));
            }
        }
        if !redirected.is_empty() {
            let action = Action::Redirect(Redirect {
                scheme: Some("https".to_owned()),
                status: 301,
                ..Redirect::default()
            });
            let rule = Rule {
                timeouts: Timeouts::default(),
                ..self.rule("spec.tls".to_owned(), PathMatch::default(), action)
            };
            let parents = vec![RouteParent::Listener(self.key(HTTP.to_owned()))];
            routes.push(self.route("spec.tls", parents, hostnames(redirected), vec![rule]));
        }
        routes
    }

    fn route(
        &self,
        field: &str,
        parents: Vec<RouteParent>,
        hostnames: Vec<Hostname>,
        rules: Vec<Rule>,
    ) -> Route {
        Route {
            origin: self.origin.at(field),
            parents,
            hostnames,
            wildcard_one_label: true,
            precedence: MatchPrecedence::Ingress,
            rules,
        }
    }

    fn claim(&self, ingress: &Ingress) -> AddressClaim {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut labels = BTreeMap::from([label("cilium.io/ingress", "true")]);
        let shared = match self.settings.mode {
            Mode::Shared => {
                // Nothing of the single Ingress here: all that share must be held against the same selectors.
                labels.extend([label("io.kubernetes.service.name", SHARED)]);
                Some(SHARED.to_owned())
            }
            Mode::Dedicated => {
                let service = format!("{SHARED}-{}", self.origin.object.name.name);
                labels.extend([
                    label("io.kubernetes.service.name", &service),
                    label("io.kubernetes.service.namespace", self.namespace),
                ]);
                labels.extend(ingress.metadata.labels.clone().unwrap_or_default());
                None
            }
        };
        AddressClaim {
            origin: self.origin.clone(),
            requested: self.settings.addresses.clone(),
            shared,
            labels,
        }
    }

    fn key(&self, section: String) -> ListenerKey {
        ListenerKey { object: self.origin.object.clone(), section }
    }
}

fn section(host: &Hostname) -> String {
    format!("https-{host}")
}

/// The hosts of a route: none when every host is among them.
fn hostnames(hosts: impl IntoIterator<Item = Hostname>) -> Vec<Hostname> {
    let hosts: Vec<Hostname> = hosts.into_iter().collect();
    if hosts.contains(&Hostname::Any) { Vec::new() } else { hosts }
}

/// Gives each host the default backend for the paths that no rule of the Ingress matches, as the API defines
/// it. (Cilium answers 404 there.) Not in shared mode: there, another Ingress may have the host's `/`.
fn append_default(planned: &mut [PlannedRoute], default: &Rule) {
    let everything = PathMatch::default();
    let catches_all = |route: &PlannedRoute| {
        route.rules.iter().any(|rule| rule.matches.iter().any(|m| m.path == everything))
    };
    let mut done: BTreeSet<Hostname> =
        planned.iter().filter(|route| catches_all(route)).map(|route| route.host.clone()).collect();
    for route in planned.iter_mut().rev() {
        if route.host != Hostname::Any && done.insert(route.host.clone()) {
            route.rules.push(default.clone());
        }
    }
}

/// Two equal paths of one host: the first is served, which the owner of the second should know.
fn report_duplicates(planned: &[PlannedRoute], report: &mut Report) {
    let mut first: BTreeMap<(&Hostname, &RouteMatch), &str> = BTreeMap::new();
    for route in planned {
        for rule in &route.rules {
            for matched in &rule.matches {
                match first.entry((&route.host, matched)) {
                    Entry::Vacant(entry) => drop(entry.insert(&rule.field)),
                    Entry::Occupied(entry) => report.add(
                        Effect::Warned,
                        &rule.field,
                        "DuplicatePath",
                        format!("has the same host and path as {}, which is served; remove one", entry.get()),
                    ),
                }
            }
        }
    }
}

/// TLS for a host that no rule serves has nothing to offer.
fn drop_unused_tls(tls: &mut BTreeMap<Hostname, TlsHost>, planned: &[PlannedRoute], report: &mut Report) {
    tls.retain(|tls_host, entry| {
        let used = planned.iter().any(|route| host::narrower(&route.host, tls_host).is_some());
        if !used {
            report.add(
                Effect::Warned,
                &entry.field,
                "UnusedTls",
                format!(
                    "no rule serves {tls_host}, so TLS is not offered for it; add a rule or remove the host"
                ),
            );
        }
        used
    });
}
