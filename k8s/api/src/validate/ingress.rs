//! Ingresses.

use crate::networking::{HTTPIngressPath, Ingress, IngressBackend};

use super::{Check, Issues, names};

impl Check for Ingress {
    fn check(&self, issues: &mut Issues<'_>) {
        let spec = match &self.spec {
            Some(spec)
                if spec.default_backend.is_some() || spec.rules.as_ref().is_some_and(|r| !r.is_empty()) =>
            {
                spec
            }
            _ => return issues.error("spec", "has neither rules nor a defaultBackend", "add one of them"),
        };
        if let Some(default) = &spec.default_backend {
            backend(issues, "spec.defaultBackend", default);
        }
        for (r, rule) in spec.rules.iter().flatten().enumerate() {
            let at = format!("spec.rules[{r}]");
            names::host(issues, &format!("{at}.host"), rule.host.as_deref().unwrap_or_default());
            let Some(http) = &rule.http else { continue };
            if http.paths.is_empty() {
                issues.error(format!("{at}.http.paths"), "is empty", "add a path, or leave `http` out");
            }
            for (p, path) in http.paths.iter().enumerate() {
                check_path(issues, &format!("{at}.http.paths[{p}]"), path);
            }
        }
        for (t, tls) in spec.tls.iter().flatten().enumerate() {
            for (h, host) in tls.hosts.iter().flatten().enumerate() {
                names::host(issues, &format!("spec.tls[{t}].hosts[{h}]"), host);
            }
            let secret = tls.secret_name.as_deref().filter(|name| !name.is_empty());
            if let Some(Err(problem)) = secret.map(names::subdomain) {
                issues.error(
                    format!("spec.tls[{t}].secretName"),
                    problem,
                    "name a Secret of the same namespace",
                );
            }
        }
    }
}

fn check_path(issues: &mut Issues<'_>, at: &str, path: &HTTPIngressPath) {
    let text = path.path.as_deref().unwrap_or_default();
    match path.path_type.as_str() {
        "Exact" | "Prefix" => {
            if let Err(problem) = names::route_path(text) {
                let fix = "write a path such as `/shop`; other forms need pathType ImplementationSpecific";
                issues.error(format!("{at}.path"), format!("{text:?} {problem}"), fix);
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                let problem = format!("{text:?} does not start with `/`");
                issues.error(format!("{at}.path"), problem, "write a path such as `/shop`");
            }
        }
        other => {
            let problem =
                if other.is_empty() { "is missing".to_owned() } else { format!("{other:?} is none") };
            issues.error(format!("{at}.pathType"), problem, "write Exact, Prefix or ImplementationSpecific");
        }
    }
    backend(issues, &format!("{at}.backend"), &path.backend);
}

fn backend(issues: &mut Issues<'_>, at: &str, backend: &IngressBackend) {
    let service = match (&backend.service, &backend.resource) {
        (Some(service), None) => service,
        (None, Some(_)) => return,
        (None, None) => {
            return issues.error(at, "names nothing", "add `service: {name: NAME, port: {number: 80}}`");
        }
        (Some(_), Some(_)) => {
            return issues.error(at, "names both a service and a resource", "remove one of them");
        }
    };
    if let Err(problem) = names::label(&service.name) {
        issues.error(format!("{at}.service.name"), problem, "name a Service of the same namespace");
    }
    let port = service.port.as_ref();
    let name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
    let number = port.and_then(|port| port.number).filter(|number| *number != 0);
    match (name, number) {
        (Some(name), None) => {
            if let Err(problem) = names::port_name(name) {
                issues.error(
                    format!("{at}.service.port.name"),
                    problem,
                    "write the name of one of the Service's ports",
                );
            }
        }
        (None, Some(number)) => names::port(issues, &format!("{at}.service.port.number"), number),
        (None, None) => issues.error(format!("{at}.service.port"), "is missing", "add `port: {number: 80}`"),
        (Some(_), Some(_)) => {
            issues.error(format!("{at}.service.port"), "has both a name and a number", "remove one of them");
        }
    }
}
