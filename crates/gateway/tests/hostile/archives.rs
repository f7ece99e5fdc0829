//! Uploads that must not go up, each with the reason.

use crate::flow::{archive, good_archive, gzip};

/// A tar with one entry of any kind under any name, however wrong.
fn entry(kind: tar::EntryType, name: &[u8], link: &str, content: &[u8]) -> Vec<u8> {
    entries(&[(kind, name, link, content)])
}

fn entries(list: &[(tar::EntryType, &[u8], &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    // A good file first: what follows must be refused for its own sake.
    let good = b"resource \"terraform_data\" \"a\" {}\n";
    for (kind, name, link, content) in [(tar::EntryType::Regular, &b"main.tf"[..], "", &good[..])]
        .iter()
        .chain(list)
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // Past the library's own checks.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

fn main_tf(text: &str) -> Vec<u8> {
    archive(&[("main.tf", text)])
}

/// Far deeper than anybody nests, and than a thread's stack is.
const DEEP: usize = 20_000;

fn nested(open: &str, inner: &str, close: &str) -> String {
    format!(
        "locals {{\n a = {}{inner}{}\n}}\n",
        open.repeat(DEEP),
        close.repeat(DEEP)
    )
}

/// What it is, the bytes, and the codes with which it may be refused.
pub(crate) fn hostile_uploads() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    use tar::EntryType as Kind;
    let text = b"x = 1\n";
    let file = |name: &[u8]| entry(Kind::Regular, name, "", text);
    let path: &[&str] = &["UPLOAD_PATH"];
    let deep: &[&str] = &["CONFIGURATION_SYNTAX", "CONFIGURATION_BLOCK"];
    let binary: &[&str] = &["CONFIGURATION_PROVIDER_BINARY"];
    let bomb = gzip(&vec![0; 300 << 20]);
    let mut two_members = good_archive();
    two_members.extend(good_archive());
    let mut trailing = good_archive();
    trailing.extend_from_slice(b"more");
    let mut cut = good_archive();
    cut.truncate(cut.len() / 2);
    let many: Vec<(String, &str)> = (0..10_001).map(|n| (format!("f{n}.tf"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (&**name, *text)).collect();
    vec![
        ("nothing", Vec::new(), &["UPLOAD_NOT_GZIP"]),
        ("text", b"resource {}".to_vec(), &["UPLOAD_NOT_GZIP"]),
        (
            "zip",
            b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa".to_vec(),
            &["UPLOAD_NOT_GZIP"],
        ),
        ("gzip of text", gzip(&[b'x'; 4096]), &["UPLOAD_NOT_TAR"]),
        (
            "a gzip that breaks off",
            cut,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        (
            "two gzips",
            two_members,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        (
            "trailing bytes",
            trailing,
            &["UPLOAD_NOT_GZIP", "UPLOAD_NOT_TAR"],
        ),
        ("a bomb", bomb, &["UPLOAD_BOMB", "UPLOAD_NOT_TAR"]),
        ("many files", archive(&many), &["UPLOAD_TOO_MANY_ENTRIES"]),
        (
            "a symbolic link",
            entry(Kind::Symlink, b"a.tf", "/etc/passwd", b""),
            &["UPLOAD_LINK"],
        ),
        (
            "a hard link",
            entry(Kind::Link, b"a.tf", "main.tf", b""),
            &["UPLOAD_LINK"],
        ),
        (
            "a device",
            entry(Kind::Char, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a block device",
            entry(Kind::Block, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a pipe",
            entry(Kind::Fifo, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE"],
        ),
        (
            "a sparse file",
            entry(Kind::GNUSparse, b"a.tf", "", b""),
            &["UPLOAD_SPECIAL_FILE", "UPLOAD_NOT_TAR"],
        ),
        ("dot dot", file(b"../a.tf"), path),
        ("dot dot inside", file(b"a/../../b.tf"), path),
        ("absolute", file(b"/etc/cron.d/a.tf"), path),
        ("a backslash", file(b"..\\a.tf"), path),
        ("a drive", file(b"C:\\a.tf"), path),
        ("a control byte", file(b"a\x01.tf"), path),
        ("not text", file(b"a\xff.tf"), path),
        (
            "twice",
            entries(&[
                (Kind::Regular, b"a.tf", "", text),
                (Kind::Regular, b"a.tf", "", text),
            ]),
            &["UPLOAD_DUPLICATE"],
        ),
        (
            "twice, differently written",
            entries(&[
                (Kind::Regular, b"a.tf", "", text),
                (Kind::Regular, b"./a.tf", "", text),
            ]),
            &["UPLOAD_DUPLICATE", "UPLOAD_PATH"],
        ),
        (
            "a plugin",
            file(b"terraform.d/plugins/h/n/t/1.0.0/linux_amd64/terraform-provider-t"),
            binary,
        ),
        ("a plugin cache", file(b".terraform/providers/x"), binary),
        ("a CLI configuration", file(b".terraformrc"), binary),
        ("a CLI configuration below", file(b"a/terraform.rc"), binary),
        (
            "a program",
            entry(Kind::Regular, b"data.bin", "", b"\x7fELF\x02\x01"),
            binary,
        ),
        (
            "parentheses in parentheses",
            main_tf(&nested("(", "1", ")")),
            deep,
        ),
        ("lists in lists", main_tf(&nested("[", "1", "]")), deep),
        (
            "objects in objects",
            main_tf(&nested("{a=", "1", "}")),
            deep,
        ),
        (
            "functions in functions",
            main_tf(&nested("abs(", "1", ")")),
            deep,
        ),
        (
            "templates in templates",
            main_tf(&nested("\"${", "1", "}\"")),
            deep,
        ),
        ("negations", main_tf(&nested("!", "true", "")), deep),
        ("conditions", main_tf(&nested("true ? 1 : ", "1", "")), deep),
        ("indexes", main_tf(&nested("a[", "1", "]")), deep),
        (
            "loops in loops",
            main_tf(&nested("[for x in ", "[]", ": x]")),
            deep,
        ),
        (
            "directives",
            main_tf(&nested("\"%{if true}", "", "%{endif}\"")),
            deep,
        ),
        (
            "a heredoc in heredocs",
            main_tf(&format!("locals {{\n{}\n}}\n", "a = <<E\n".repeat(DEEP))),
            deep,
        ),
        (
            "blocks in blocks",
            main_tf(&format!(
                "{}{}",
                "locals {\n".repeat(DEEP),
                "}\n".repeat(DEEP)
            )),
            deep,
        ),
        (
            "JSON in JSON",
            archive(&[(
                "main.tf.json",
                &format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
            )]),
            deep,
        ),
        (
            "objects in JSON",
            archive(&[(
                "main.tf.json",
                &format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP)),
            )]),
            deep,
        ),
        (
            "parentheses in JSON",
            archive(&[(
                "main.tf.json",
                &format!(
                    r#"{{"output":{{"e":{{"value":"${{{}1{}}}"}}}}}}"#,
                    "(".repeat(DEEP),
                    ")".repeat(DEEP)
                ),
            )]),
            deep,
        ),
        (
            "a module tree",
            file(b".git/config"),
            &["CONFIGURATION_FILE_TYPE", "CONFIGURATION_PROVIDER_BINARY"],
        ),
        (
            "no configuration",
            archive(&[("README.md", "x")]),
            &["CONFIGURATION_EMPTY", "CONFIGURATION_FILE_TYPE"],
        ),
        (
            "broken syntax",
            main_tf("resource \"a\" {"),
            &["CONFIGURATION_SYNTAX"],
        ),
        (
            "not text inside",
            archive(&[("main.tf", "\u{feff}resource \"terraform_data\" \"a\" {")]),
            &["CONFIGURATION_SYNTAX"],
        ),
        (
            "an unknown block",
            main_tf("surprise \"a\" {}\n"),
            &["CONFIGURATION_BLOCK"],
        ),
        (
            "a provisioner",
            main_tf(
                "resource \"terraform_data\" \"a\" {\n provisioner \"local-exec\" {\n  command = \"id\"\n }\n}\n",
            ),
            &["CONFIGURATION_PROVISIONER"],
        ),
        (
            "a provisioner in JSON",
            archive(&[(
                "main.tf.json",
                r#"{"resource":{"terraform_data":{"a":{"provisioner":{"local-exec":{"command":"id"}}}}}}"#,
            )]),
            &["CONFIGURATION_PROVISIONER"],
        ),
        (
            "the environment",
            main_tf("output \"e\" {\n value = file(\"/proc/self/environ\")\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment in a string",
            main_tf(
                "output \"e\" {\n value = \"a${ filebase64( \"/proc/self/environ\" ) }b\"\n}\n",
            ),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment by a made-up path",
            main_tf(
                "locals {\n p = \"/proc\"\n}\noutput \"e\" {\n value = file(\"${local.p}/self/environ\")\n}\n",
            ),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "the environment in JSON",
            archive(&[(
                "main.tf.json",
                r#"{"output":{"e":{"value":"${file(\"/proc/self/environ\")}"}}}"#,
            )]),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "a file outside",
            main_tf("output \"e\" {\n value = templatefile(\"../x\", {})\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "a namespaced function",
            main_tf("output \"e\" {\n value = core::file(\"/etc/passwd\")\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "an unmasked secret",
            main_tf("output \"e\" {\n value = nonsensitive(var.x)\n}\n"),
            &["CONFIGURATION_FUNCTION"],
        ),
        (
            "external data",
            main_tf("data \"external\" \"a\" {\n program = [\"id\"]\n}\n"),
            &["CONFIGURATION_DATA_SOURCE", "CONFIGURATION_PROVIDER"],
        ),
        (
            "a file as data",
            main_tf("data \"local_file\" \"a\" {\n filename = \"/proc/self/environ\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a secret file as data",
            main_tf(
                "data \"local_sensitive_file\" \"a\" {\n filename = \"/proc/self/environ\"\n}\n",
            ),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a template of any file",
            main_tf("data \"template_file\" \"a\" {\n filename = \"/proc/self/environ\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a certificate from anywhere",
            main_tf("data \"tls_certificate\" \"a\" {\n url = \"https://x.example\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a name asked of anybody",
            main_tf("data \"dns_a_record_set\" \"a\" {\n host = \"x.example\"\n}\n"),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "remote state",
            main_tf(
                "data \"terraform_remote_state\" \"a\" {\n backend = \"http\"\n config = { address = \"http://203.0.113.1/\" }\n}\n",
            ),
            &["CONFIGURATION_DATA_SOURCE"],
        ),
        (
            "a backend",
            main_tf(
                "terraform {\n backend \"http\" {\n  address = \"http://203.0.113.1\"\n }\n}\n",
            ),
            &["CONFIGURATION_BACKEND"],
        ),
        (
            "a module from elsewhere",
            main_tf("module \"a\" {\n source = \"git::https://example.com/a.git\"\n}\n"),
            &["CONFIGURATION_MODULE_SOURCE"],
        ),
        (
            "a module outside",
            main_tf("module \"a\" {\n source = \"../../etc\"\n}\n"),
            &["CONFIGURATION_MODULE_SOURCE"],
        ),
        (
            "the tfe provider",
            main_tf("resource \"tfe_workspace\" \"a\" {\n name = \"x\"\n}\n"),
            &["CONFIGURATION_RESOURCE_TYPE", "CONFIGURATION_PROVIDER"],
        ),
        (
            "a provider from elsewhere",
            main_tf(
                "terraform {\n required_providers {\n  a = { source = \"evil.example/a/a\" }\n }\n}\n",
            ),
            &["CONFIGURATION_PROVIDER"],
        ),
    ]
}
