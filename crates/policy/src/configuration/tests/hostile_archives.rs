//! Archives that are none, and files that bring programs along.

use super::*;

#[test]
fn what_is_no_plain_archive_is_refused() {
    use ReasonCode::*;
    use tar::EntryType::*;
    let one = |kind, name: &str| archive(&[entry(kind, name, b"")]);
    let file = |name: &str| one(Regular, name);
    let good = files(&[("main.tf", "")]);
    let cases: Vec<(&str, Vec<u8>, ReasonCode)> = vec![
        ("empty", vec![], UploadNotGzip),
        ("text", b"hello".to_vec(), UploadNotGzip),
        ("zip", b"PK\x03\x04".to_vec(), UploadNotGzip),
        ("cut", good[..good.len() - 9].to_vec(), UploadNotGzip),
        (
            "two streams",
            [good.clone(), good.clone()].concat(),
            UploadNotGzip,
        ),
        (
            "trailing",
            [good.clone(), b"x".to_vec()].concat(),
            UploadNotGzip,
        ),
        (
            "no tar",
            gzip(b"not a tar archive, but longer than nothing"),
            UploadNotTar,
        ),
        (
            "cut tar",
            gzip(&entry(Regular, "main.tf", &[b'x'; 2000])[..1024]),
            UploadNotTar,
        ),
        ("nothing", archive(&[]), ConfigurationEmpty),
        ("symlink", one(Symlink, "a"), UploadLink),
        ("hard link", one(Link, "a"), UploadLink),
        ("device", one(Char, "a"), UploadSpecialFile),
        ("block", one(Block, "a"), UploadSpecialFile),
        ("fifo", one(Fifo, "a"), UploadSpecialFile),
        ("sparse", one(GNUSparse, "a"), UploadNotTar),
        ("absolute", file("/etc/passwd"), UploadPath),
        ("up", file("../main.tf"), UploadPath),
        ("up inside", file("a/../../main.tf"), UploadPath),
        ("dot", file("a/./main.tf"), UploadPath),
        ("empty part", file("a//main.tf"), UploadPath),
        ("backslash", file("a\\main.tf"), UploadPath),
        ("drive", file("c:main.tf"), UploadPath),
        ("control", file("main\n.tf"), UploadPath),
        ("folder file", file("a/"), UploadPath),
        (
            "twice",
            files(&[("main.tf", ""), ("main.tf", "x")]),
            UploadDuplicate,
        ),
        (
            "twice by dot",
            files(&[("main.tf", ""), ("./main.tf", "x")]),
            UploadDuplicate,
        ),
        (
            "file and folder",
            files(&[("a", ""), ("a/main.tf", "x")]),
            UploadDuplicate,
        ),
        ("bomb", gzip(&vec![0; 64 << 20]), UploadBomb),
    ];
    for (name, gz, expected) in cases {
        assert_eq!(refusal(&gz), expected, "{name}");
    }
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let two = files(&[("a.tf", ""), ("b.tf", "")]);
    assert_eq!(
        inspect_upload(&two, &limits).unwrap_err().code,
        UploadTooManyEntries
    );
    let limits = Limits {
        packed: 10,
        ..Limits::default()
    };
    assert_eq!(
        inspect_upload(&two, &limits).unwrap_err().code,
        UploadTooLarge
    );
}

#[test]
fn files_that_bring_programs_along_are_refused() {
    use ReasonCode::*;
    for (path, content, expected) in [
        ("terraform.d/plugins/x", "", ConfigurationProviderBinary),
        ("sub/terraform.d/x", "", ConfigurationProviderBinary),
        (".terraform/providers/x", "", ConfigurationProviderBinary),
        (
            "sub/.terraform/modules/x.tf",
            "",
            ConfigurationProviderBinary,
        ),
        (".terraformrc", "", ConfigurationProviderBinary),
        ("terraform.rc", "", ConfigurationProviderBinary),
        ("terraform-provider-aws_v5", "", ConfigurationProviderBinary),
        ("helper", "\u{7f}ELF", ConfigurationProviderBinary),
        ("helper.exe", "MZ", ConfigurationProviderBinary),
        (".git/config", "", ConfigurationFileType),
        (".netrc", "", ConfigurationFileType),
        ("main.tofu", "", ConfigurationFileType),
        ("x.tfquery.hcl", "", ConfigurationFileType),
        ("MAIN.TF", "", ConfigurationFileType),
        ("bad.tf", "resource {", ConfigurationSyntax),
        ("bad.tf.json", "{", ConfigurationSyntax),
        (
            "bad.tf.json",
            r#"{"resource":{},"resource":{}}"#,
            ConfigurationSyntax,
        ),
    ] {
        let found = judge(&contract(""), &[("main.tf", ""), (path, content)]);
        assert_eq!(
            found.first().map(|r| r.code),
            Some(expected),
            "{path}: {found:?}"
        );
        assert_eq!(found[0].file.as_deref(), Some(path));
    }
    assert_eq!(
        judge(&contract(""), &[("readme.md", "")])[0].code,
        ConfigurationEmpty
    );
    for path in [
        "lambda.zip",
        "policy.json",
        "terraform.tfvars",
        "x.auto.tfvars",
        "LICENSE",
        "run.sh",
        "tests/a.tftest.hcl",
        "terraform.tfstate",
    ] {
        assert_eq!(
            judge(&contract(""), &[("main.tf", ""), (path, "")]),
            [],
            "{path}"
        );
    }
}
