//! Which files may be there at all.

use super::{InspectedUpload, UploadRefusal};
use crate::reason::ReasonCode;

pub(super) fn judge(upload: &InspectedUpload, findings: &mut Vec<UploadRefusal>) {
    for file in &upload.files {
        if let Some((code, rule)) = refused(&file.path, &file.content) {
            findings.push(UploadRefusal::at(code, &file.path, rule));
        }
    }
    if !upload
        .files
        .iter()
        .any(|file| is_native(&file.path) || is_json(&file.path))
    {
        let rule = "no .tf or .tf.json file";
        findings.push(UploadRefusal::whole(ReasonCode::ConfigurationEmpty, rule));
    }
}

/// Native syntax that Terraform loads as configuration.
pub(super) fn is_native(path: &str) -> bool {
    path.ends_with(".tf")
}

/// JSON syntax that Terraform loads as configuration.
pub(super) fn is_json(path: &str) -> bool {
    path.ends_with(".tf.json")
}

fn refused(path: &str, content: &[u8]) -> Option<(ReasonCode, &'static str)> {
    let lower = path.to_ascii_lowercase();
    let mut parts = lower.split('/');
    let name = lower.rsplit('/').next().unwrap_or_default();
    let programs = ReasonCode::ConfigurationProviderBinary;
    if parts.any(|part| matches!(part, "terraform.d" | ".terraform" | ".terraform.d")) {
        return Some((
            programs,
            "folders of providers and plugins are not accepted",
        ));
    }
    if name.starts_with("terraform-provider-") || name.starts_with("terraform-provisioner-") {
        return Some((programs, "plugins are not accepted"));
    }
    if matches!(
        name,
        ".terraformrc" | "terraform.rc" | ".tofurc" | "tofu.rc"
    ) {
        return Some((programs, "CLI configuration is not accepted"));
    }
    if is_program(content) {
        return Some((programs, "programs are not accepted"));
    }
    let kind = ReasonCode::ConfigurationFileType;
    if lower.split('/').any(|part| part == ".git") || matches!(name, ".netrc" | ".gitmodules") {
        return Some((
            kind,
            "files of version control and credentials are not accepted",
        ));
    }
    // `init` fetches the modules that tests name; uploads leave tests out.
    if is_test(path) {
        return Some((kind, "tests and mocks are not accepted"));
    }
    // Configuration of another dialect would be loaded without having been judged.
    let dialects = [
        ".tofu",
        ".tofu.json",
        ".tfquery.hcl",
        ".tfquery.json",
        ".tfstack.hcl",
        ".tfstack.json",
        ".tfcomponent.hcl",
        ".tfcomponent.json",
        ".tfdeploy.hcl",
        ".tfdeploy.json",
        ".tfpolicy.hcl",
    ];
    if dialects.iter().any(|suffix| name.ends_with(suffix)) {
        return Some((kind, "configuration of this kind is not accepted"));
    }
    // Terraform looks at the exact suffix; a file that differs by case would look like
    // configuration to people and not to us.
    let configuration = |path: &str| is_native(path) || is_json(path);
    if configuration(&lower) && !configuration(path) {
        return Some((
            kind,
            "write the suffix of configuration files in lower case",
        ));
    }
    None
}

/// Tests and their mocks. No plan needs them.
pub(super) fn is_test(path: &str) -> bool {
    let suffixes = [
        ".tftest.hcl",
        ".tftest.json",
        ".tofutest.hcl",
        ".tofutest.json",
        ".tfmock.hcl",
        ".tfmock.json",
    ];
    suffixes.iter().any(|suffix| path.ends_with(suffix))
}

/// ELF, Mach-O, Windows and WebAssembly programs.
fn is_program(content: &[u8]) -> bool {
    let magics: [&[u8]; 8] = [
        b"\x7fELF",
        b"MZ",
        b"\0asm",
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
    ];
    magics.iter().any(|magic| content.starts_with(magic))
}
