//! `models`: what the model lane may do.

use super::parse::{MAX_COUNT, amount, glob};
use super::reader::Reader;
use crate::decimal::Decimal;
use crate::glob::Glob;
use crate::reason::quoted;

/// Most redaction rules of a contract.
const MAX_REDACTIONS: usize = 64;
/// Most days for which prompts are kept.
const MAX_PROMPT_DAYS: i64 = 30;
/// Most steps of a redaction's path.
const MAX_STEPS: usize = 16;

/// Members of a request that decide about it, so that no redaction may touch them.
const DECIDING: [&str; 9] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "background",
    "models",
    "fallbacks",
];

/// `models`; what is not listed is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models {
    /// Providers by their name in the operator's configuration.
    pub providers: Vec<String>,
    /// Model names, as the provider that answers knows them.
    pub allowed: Vec<Glob>,
    /// Which tools a request may offer to the model; `None` is no rule.
    pub tools: Option<ToolRules>,
    /// Most calls in a job.
    pub max_calls: Option<u64>,
    /// Most tokens in a job, prompt and answer together.
    pub max_tokens: Option<u64>,
    /// Most money in a job.
    pub max_cost_usd: Option<Decimal>,
    /// What is taken out of requests before they are sent, in this order.
    pub redact: Vec<Redaction>,
    /// Whether an answer is read to its end although the client has left, so that its tokens are
    /// the provider's count and not an estimate.
    pub count_exactly: bool,
    /// For how many days after a run has ended the gateway keeps the end of what the agent asked
    /// models before it, as text, for approvers; 0 keeps none.
    pub show_prompts_days: u32,
}

/// `models.tools`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolRules {
    /// Tools that may be offered; `None` is every one that is not denied.
    pub allow: Option<Vec<Glob>>,
    /// Tools that may not; wins over `allow`.
    pub deny: Vec<Glob>,
}

impl ToolRules {
    /// Whether a tool of this name may be offered.
    pub fn admits(&self, name: &str) -> bool {
        let listed = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
        self.allow.as_deref().is_none_or(listed) && !listed(&self.deny)
    }
}

/// One element of `models.redact`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// What it is about.
    pub path: RedactionPath,
    /// What happens to it.
    pub action: RedactionAction,
}

/// `models.redact[].action`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedactionAction {
    /// The member is taken out.
    Remove,
    /// Its value becomes the text `[masked]`, whatever it was.
    Mask,
}

impl RedactionAction {
    /// Its name in contracts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Mask => "mask",
        }
    }
}

/// A place in a request's body: member names joined by dots, `[*]` after a name for every element
/// of its array, as in `messages[*].content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactionPath {
    text: Box<str>,
    steps: Box<[Step]>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the member of this name.
    Member(Box<str>),
    /// Into every element.
    Elements,
}

impl RedactionPath {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            Err(format!(
                "{} is not a path like `user` or `messages[*].content`",
                quoted(text)
            ))
        };
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name = part.trim_end_matches("[*]");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
                return bad();
            }
            steps.push(Step::Member(name.into()));
            let elements = (part.len() - name.len()) / "[*]".len();
            steps.extend(std::iter::repeat_n(Step::Elements, elements));
        }
        if steps.len() > MAX_STEPS {
            return bad();
        }
        Ok(Self {
            text: text.into(),
            steps: steps.into(),
        })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its steps from the outside in; at least one, and the first is a member.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// Reads `models`.
pub(super) fn read(root: &Reader<'_>) -> Models {
    let reader = root.object(
        "models",
        &[
            "providers",
            "allowed",
            "tools",
            "max_calls",
            "max_tokens",
            "max_cost_usd",
            "redact",
            "count_exactly",
            "show_prompts_days",
        ],
    );
    let count = |name| {
        reader
            .integer(name, 0..=MAX_COUNT)
            .and_then(|value| u64::try_from(value).ok())
    };
    Models {
        providers: reader.list("providers", provider_name).unwrap_or_default(),
        allowed: reader.list("allowed", glob).unwrap_or_default(),
        tools: reader.has("tools").then(|| tools(&reader)),
        max_calls: count("max_calls"),
        max_tokens: count("max_tokens"),
        max_cost_usd: reader.text("max_cost_usd", amount),
        redact: redact(&reader),
        count_exactly: reader.boolean("count_exactly", false),
        show_prompts_days: reader
            .integer("show_prompts_days", 0..=MAX_PROMPT_DAYS)
            .and_then(|days| u32::try_from(days).ok())
            .unwrap_or(0),
    }
}

fn tools(models: &Reader<'_>) -> ToolRules {
    let reader = models.object("tools", &["allow", "deny"]);
    ToolRules {
        allow: reader.list("allow", glob),
        deny: reader.list("deny", glob).unwrap_or_default(),
    }
}

fn redact(models: &Reader<'_>) -> Vec<Redaction> {
    let count = models.array("redact").map_or(0, <[_]>::len);
    if count > MAX_REDACTIONS {
        models.bad(
            "redact",
            format!("has {count} elements; at most {MAX_REDACTIONS}"),
        );
        return Vec::new();
    }
    let rule = |index| {
        let entry = models.element("redact", index, &["path", "action"]);
        entry.require("path");
        entry.require("action");
        let path = entry.text("path", RedactionPath::parse);
        let action = entry.choice(
            "action",
            &[
                ("remove", RedactionAction::Remove),
                ("mask", RedactionAction::Mask),
            ],
        );
        let rule = Redaction {
            path: path?,
            action: action?,
        };
        let steps = rule.path.steps();
        if let Some(Step::Member(name)) = steps.first()
            && DECIDING.contains(&&**name)
        {
            entry.contradiction("path", format!("`{name}` decides about the call"));
        }
        if rule.action == RedactionAction::Remove && steps.last() == Some(&Step::Elements) {
            entry.contradiction("path", "elements are masked; only a member can be removed");
        }
        Some(rule)
    };
    (0..count).filter_map(rule).collect()
}

fn provider_name(text: &str) -> Result<String, String> {
    let good = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{} is not the name of a model provider",
            quoted(text)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, ContractErrors};

    fn models(text: &str) -> Result<Models, ContractErrors> {
        let models = format!("\"models\": {text}, \"audit\"");
        let contract = crate::EXAMPLE_CONTRACT.replacen("\"audit\"", &models, 1);
        Contract::parse(contract.as_bytes()).map(|contract| contract.models.unwrap())
    }

    #[test]
    fn absent_and_empty_rules_about_tools_differ() {
        for (text, admitted) in [
            (r#"{"tools":{}}"#, [true, true]),
            (r#"{"tools":{"allow":[]}}"#, [false, false]),
            (r#"{"tools":{"allow":["tfc__*"]}}"#, [true, false]),
            (r#"{"tools":{"deny":["exec"]}}"#, [true, false]),
            (
                r#"{"tools":{"allow":["*"],"deny":["tfc__*"]}}"#,
                [false, true],
            ),
        ] {
            let rules = models(text).unwrap().tools.unwrap();
            assert_eq!(
                ["tfc__plan", "exec"].map(|name| rules.admits(name)),
                admitted,
                "{text}"
            );
        }
        assert_eq!(models("{}").unwrap().tools, None);
    }

    #[test]
    fn paths_are_read_step_by_step() {
        let rules = models(r#"{"redact":[{"path":"a.b_c[*][*].d-e","action":"remove"}]}"#);
        let steps = rules.unwrap().redact[0].path.steps().to_vec();
        let member = |name: &str| Step::Member(name.into());
        let expected = [
            member("a"),
            member("b_c"),
            Step::Elements,
            Step::Elements,
            member("d-e"),
        ];
        assert_eq!(steps, expected);
        let long = "a.".repeat(MAX_STEPS) + "a";
        for bad in [
            "", ".", "a.", ".a", "a..b", "[*]", "a[0]", "a[*", "a[*]b", "a b", "$.a", "*", "a.*",
            &long,
        ] {
            let text = format!(r#"{{"redact":[{{"path":"{bad}","action":"mask"}}]}}"#);
            let errors = models(&text).unwrap_err().to_string();
            assert!(errors.contains("models.redact[0].path"), "{bad}: {errors}");
        }
    }

    #[test]
    fn rules_that_could_not_be_kept_are_refused() {
        let many = format!(
            r#"{{"redact":[{}{{"path":"a","action":"mask"}}]}}"#,
            r#"{"path":"a","action":"mask"},"#.repeat(MAX_REDACTIONS)
        );
        for (text, path) in [
            (
                r#"{"redact":[{"path":"model","action":"mask"}]}"#,
                "models.redact[0].path",
            ),
            (
                r#"{"redact":[{"path":"max_tokens","action":"remove"}]}"#,
                "models.redact[0].path",
            ),
            (
                r#"{"redact":[{"path":"messages[*]","action":"remove"}]}"#,
                "models.redact[0].path",
            ),
            (r#"{"redact":[{"path":"user"}]}"#, "models.redact[0].action"),
            (
                r#"{"redact":[{"path":"user","action":"hide"}]}"#,
                "models.redact[0].action",
            ),
            (
                r#"{"redact":{"path":"user","action":"mask"}}"#,
                "models.redact",
            ),
            (many.as_str(), "models.redact"),
            (r#"{"tools":{"alow":[]}}"#, "models.tools.alow"),
            (r#"{"tools":["exec"]}"#, "models.tools"),
            (r#"{"tools":{"deny":["[a-z]"]}}"#, "models.tools.deny[0]"),
            (r#"{"max_cost_usd":5}"#, "models.max_cost_usd"),
            (r#"{"max_cost_usd":"-5"}"#, "models.max_cost_usd"),
            (r#"{"count_exactly":"yes"}"#, "models.count_exactly"),
            (r#"{"providers":["Open AI"]}"#, "models.providers[0]"),
        ] {
            let errors = models(text).unwrap_err().to_string();
            assert!(errors.contains(path), "{text:.60}: {errors}");
        }
    }
}
