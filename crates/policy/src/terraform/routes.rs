//! The route table, read once from `routes.tsv`, and the search in it.

use std::sync::LazyLock;

use super::class::Class;
use super::operation::Operation;

/// HTTP methods of the Terraform Cloud API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are HTTP's")]
pub enum Method {
    Get,
    Post,
    Patch,
    Put,
    Delete,
}

impl Method {
    /// Reads the method's exact text.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "PATCH" => Self::Patch,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => return None,
        })
    }

    /// The method's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; `None` is any method.
    pub method: Option<Method>,
    /// The path with placeholders.
    pub template: &'static str,
    /// What it would reach.
    pub class: Class,
    /// The call that it is, when it is forwarded.
    pub operation: Option<Operation>,
}

/// Every route, sorted by path.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    TABLE.routes.iter()
}

/// The template of the route that a request target names, if it is in the table: what may be
/// said of a refused call without repeating what the caller wrote.
pub fn template_of(method: &str, raw_target: &str) -> Option<&'static str> {
    let method = Method::parse(method)?;
    let path = raw_target.split('?').next()?;
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    find(method, &segments).map(|found| found.route.template)
}

/// A route and the texts under its placeholders.
pub(super) struct Match<'a> {
    pub(super) route: &'static Route,
    pub(super) captured: Vec<&'a str>,
}

/// Finds the route of a path that is already split into segments.
pub(super) fn find<'a>(method: Method, segments: &[&'a str]) -> Option<Match<'a>> {
    let mut captured = Vec::with_capacity(4);
    let index = TABLE
        .root
        .find(&TABLE.routes, method, segments, &mut captured)?;
    Some(Match {
        route: &TABLE.routes[index],
        captured,
    })
}

struct Table {
    routes: Vec<Route>,
    root: Node,
}

/// A node of the search tree; numbers are positions in the list of routes.
#[derive(Default)]
struct Node {
    fixed: Vec<(&'static str, Node)>,
    placeholder: Option<Box<Node>>,
    here: Vec<usize>,
    rest: Vec<usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    read(include_str!("routes.tsv")).expect("the table is part of this crate and tested")
});

fn read(text: &'static str) -> Result<Table, &'static str> {
    let mut routes = Vec::new();
    let mut root = Node::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut column = || columns.next().ok_or(line);
        let method = match column()? {
            "*" => None,
            method => Some(Method::parse(method).ok_or(line)?),
        };
        let template = column()?;
        let class = column()?.parse().map_err(|()| line)?;
        let operation = columns
            .next()
            .map(str::parse)
            .transpose()
            .map_err(|_| line)?;
        root.insert(template, routes.len());
        routes.push(Route {
            method,
            template,
            class,
            operation,
        });
    }
    Ok(Table { routes, root })
}

impl Node {
    fn insert(&mut self, template: &'static str, index: usize) {
        let mut node = self;
        for segment in template.split('/').skip(1) {
            if segment == "{rest}" {
                node.rest.push(index);
                return;
            }
            node = if segment.starts_with('{') {
                node.placeholder.get_or_insert_default()
            } else {
                let at = match node.fixed.iter().position(|(name, _)| *name == segment) {
                    Some(at) => at,
                    None => {
                        node.fixed.push((segment, Self::default()));
                        node.fixed.len() - 1
                    }
                };
                &mut node.fixed[at].1
            };
        }
        node.here.push(index);
    }

    /// Fixed segments first, then a placeholder, then the rest: the most specific route wins.
    fn find<'a>(
        &self,
        routes: &[Route],
        method: Method,
        segments: &[&'a str],
        captured: &mut Vec<&'a str>,
    ) -> Option<usize> {
        let serves = |index: &&usize| routes[**index].method.is_none_or(|own| own == method);
        let Some((segment, deeper)) = segments.split_first() else {
            return self.here.iter().find(serves).copied();
        };
        if let Some((_, node)) = self.fixed.iter().find(|(name, _)| name == segment)
            && let Some(found) = node.find(routes, method, deeper, captured)
        {
            return Some(found);
        }
        if let Some(node) = &self.placeholder {
            let mark = captured.len();
            captured.push(segment);
            if let Some(found) = node.find(routes, method, deeper, captured) {
                return Some(found);
            }
            captured.truncate(mark);
        }
        self.rest.iter().find(serves).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_reads_and_names_each_operation_once() {
        assert!(routes().count() > 584);
        let mut operations: Vec<_> = routes().filter_map(|route| route.operation).collect();
        operations.sort();
        assert_eq!(operations, Operation::ALL);
        let keys: BTreeSet<_> = routes()
            .map(|r| (r.template, r.method.map(Method::as_str)))
            .collect();
        assert_eq!(keys.len(), routes().count(), "no route twice");
        for class in Class::ALL {
            assert!(
                routes().any(|route| route.class == *class),
                "{class:?} has no route"
            );
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let class = |method, path: &str| {
            let segments: Vec<_> = path.split('/').skip(1).collect();
            find(method, &segments).map(|found| found.route.class)
        };
        assert_eq!(
            class(Method::Get, "/api/v2/tasks/integrations"),
            Some(Class::RunTaskAdmin)
        );
        assert_eq!(
            class(Method::Get, "/api/v2/workspaces/change-requests/wscr-1"),
            Some(Class::Comment)
        );
        assert_eq!(
            class(Method::Get, "/api/v2/admin/runs"),
            Some(Class::SiteAdmin)
        );
        assert_eq!(
            class(Method::Put, "/api/v2/admin/made/up"),
            Some(Class::SiteAdmin)
        );
        assert_eq!(class(Method::Delete, "/api/v2/runs"), None);
        assert_eq!(class(Method::Get, "/api/v2"), None);
    }

    /// The published list of endpoints, row by row: nothing may be missing here or classified
    /// otherwise.
    #[test]
    fn agrees_with_the_published_list() {
        let Ok(vectors) = std::env::var("CLAWGATE_VECTORS") else {
            println!("skipped: CLAWGATE_VECTORS is not set");
            return;
        };
        let path = format!("{vectors}/../knowledge/terraform-cloud-endpoints.csv");
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: no list of endpoints beside the vectors");
            return;
        };
        // Rows that describe several routes at once, or none that an agent could call.
        let grouped: &[(&str, &[(&str, &str)])] = &[
            (
                "/admin/users/{id}/actions/{",
                &[("POST", "/api/v2/admin/users/u/actions/impersonate")],
            ),
            (
                "/admin/{general",
                &[
                    ("GET", "/api/v2/admin/saml-settings"),
                    ("PATCH", "/api/v2/admin/general-settings"),
                    (
                        "POST",
                        "/api/v2/admin/saml-settings/actions/revoke-old-certificate",
                    ),
                ],
            ),
            (
                "/admin/{terraform",
                &[
                    ("POST", "/api/v2/admin/terraform-versions"),
                    ("DELETE", "/api/v2/admin/opa-versions/v"),
                ],
            ),
            (
                "/admin/scim-tokens",
                &[
                    ("DELETE", "/api/v2/admin/scim-tokens/t"),
                    ("POST", "/api/v2/admin/teams/t/scim-group-mapping"),
                ],
            ),
            (
                "/admin/banners, ",
                &[
                    ("POST", "/api/v2/admin/github-app-installations/refresh"),
                    ("GET", "/api/v2/admin/saml-settings/idp-certificates"),
                ],
            ),
            (
                "/oauth/authorize (",
                &[("GET", "/oauth/authorize"), ("GET", "/app/oauth/authorize")],
            ),
            ("/oauth/token (", &[("POST", "/oauth/token")]),
            (
                "/session, ",
                &[
                    ("POST", "/session"),
                    ("POST", "/session/two-factor"),
                    ("POST", "/auth"),
                ],
            ),
            (
                "https://archivist",
                &[("GET", "/v1/object/a"), ("PUT", "/v1/object/a")],
            ),
            (
                "{task_result_callback_url}",
                &[("PATCH", "/api/v2/task-results/t/callback")],
            ),
            ("/api/v1/*", &[("GET", "/api/v1/x/y")]),
            (
                "/api/iacm,",
                &[
                    ("GET", "/api/iacm"),
                    ("POST", "/internal/x"),
                    ("GET", "/app/acme"),
                ],
            ),
            ("(run task url", &[]),
            ("(notification url", &[]),
        ];
        let mut rows = 0;
        for record in csv(&text).into_iter().skip(1) {
            rows += 1;
            let [method, template, class, ..] = &record[..] else {
                panic!("{record:?}")
            };
            let class = class.trim_end_matches("(secrets)");
            let examples: Vec<(String, String)> = match grouped
                .iter()
                .find(|(start, _)| template.starts_with(start))
            {
                Some((_, examples)) => examples
                    .iter()
                    .filter(|(verb, _)| !template.starts_with("https") || verb == method)
                    .map(|(verb, path)| ((*verb).to_owned(), (*path).to_owned()))
                    .collect(),
                None => vec![(method.clone(), example(template))],
            };
            for (verb, path) in examples {
                let segments: Vec<_> = path.split('/').skip(1).collect();
                let found = find(Method::parse(&verb).unwrap(), &segments)
                    .unwrap_or_else(|| panic!("{verb} {path} is not in the table"));
                assert_eq!(found.route.class.as_str(), class, "{verb} {path}");
                if !grouped.iter().any(|(start, _)| template.starts_with(start)) {
                    assert_eq!(shape(found.route.template), shape(&absolute(template)));
                }
            }
        }
        assert_eq!(rows, 584);
    }

    fn absolute(template: &str) -> String {
        if template.starts_with("/api/") || template.starts_with("/.well-known") {
            template.to_owned()
        } else {
            format!("/api/v2{template}")
        }
    }

    fn shape(template: &str) -> Vec<&str> {
        template
            .split('/')
            .map(|s| if s.starts_with('{') { "{}" } else { s })
            .collect()
    }

    fn example(template: &str) -> String {
        let absolute = absolute(template);
        let segments = absolute
            .split('/')
            .map(|s| if s.starts_with('{') { "x-1" } else { s });
        segments.collect::<Vec<_>>().join("/")
    }

    fn csv(text: &str) -> Vec<Vec<String>> {
        let mut records = Vec::new();
        for line in text.lines() {
            let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
            for c in line.chars() {
                match c {
                    '"' => quoted = !quoted,
                    ',' if !quoted => fields.push(std::mem::take(&mut field)),
                    c => field.push(c),
                }
            }
            fields.push(field);
            records.push(fields);
        }
        records
    }
}
