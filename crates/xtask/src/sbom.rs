//! What a program is made of, as CycloneDX 1.6: for those who have to know whether they run a
//! crate that an advisory names.
//!
//! The same sources give the same bytes: it holds no time and no number that was drawn.

use serde_json::{Value, json};

use crate::packages::{Package, Packages};

/// The document of one program.
pub(crate) fn of(packages: &Packages, program: &str) -> anyhow::Result<Value> {
    let linked = packages.linked_into(program)?;
    let others = linked.packages.keys().filter(|own| **own != linked.program);
    let component = |package: &Package| component(package, packages.checksum(package));
    let components: Vec<Value> = others.map(|package| component(package)).collect();
    let dependencies = linked.packages.iter().map(|(package, uses)| {
        let uses: Vec<String> = uses.iter().map(|used| purl(used)).collect();
        json!({ "ref": purl(package), "dependsOn": uses })
    });
    let mut root = component(linked.program);
    root["type"] = json!("application");
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": root },
        "components": components,
        "dependencies": dependencies.collect::<Vec<_>>(),
    }))
}

fn component(package: &Package, checksum: Option<&str>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "scope": "required",
        "purl": purl(package),
    });
    if let Some(licence) = &package.license {
        let expression = licence.replace(" / ", " OR ").replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(url) = package.repository.as_ref().filter(|url| is_plain(url)) {
        component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    component
}

fn is_plain(url: &str) -> bool {
    url.starts_with("https://") && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A package's address in every such document.
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(document: &Value) -> Vec<&str> {
        let components = document["components"].as_array().unwrap().iter();
        components
            .map(|own| own["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn the_verifier_links_no_network_and_the_gateway_does() {
        let packages = Packages::read().unwrap();
        let verifier = of(&packages, "clawverify").unwrap();
        assert_eq!(verifier["metadata"]["component"]["name"], "clawverify");
        let linked = names(&verifier);
        assert!(linked.contains(&"ed25519-dalek"), "{linked:?}");
        for absent in ["tokio", "hyper", "rusqlite", "proptest", "clawverify"] {
            assert!(!linked.contains(&absent), "{absent}");
        }
        let gateway = of(&packages, "clawgate").unwrap();
        for present in ["tokio", "hyper", "rusqlite", "clawverify"] {
            assert!(names(&gateway).contains(&present), "{present}");
        }
        // Whatever came from the registry can be told apart from what only has its name.
        for component in gateway["components"].as_array().unwrap() {
            let ours = component["name"].as_str().unwrap().starts_with("claw");
            assert_eq!(component["hashes"].is_null(), ours, "{component}");
            assert!(component["licenses"].is_array(), "{component}");
        }
        assert_eq!(of(&packages, "clawgate").unwrap(), gateway);
        assert!(of(&packages, "no-such-program").is_err());
    }
}
