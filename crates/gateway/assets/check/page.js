// The form on which somebody checks a bundle: takes two files, shows progress and what came out.
// Everything that comes from a file is shown as text.
"use strict";

{
  const VERDICTS = {
    no_fault_found: [
      "No fault found",
      "Checked in your browser with the keys you chose. Not checked here: whether the contract loads and whether each decision is what it says. Only clawverify calls a bundle valid.",
    ],
    invalid: ["Not valid", "Checked in your browser with the keys you chose. Something in this bundle is wrong."],
    not_proven: [
      "Not proven",
      "Checked in your browser with the keys you chose. Nothing was found to be wrong, but something could not be shown.",
    ],
    not_checked: ["Not checked", ""],
  };
  const STATUSES = {
    pass: "passed", fail: "FAILED", not_proven: "not proven", skipped: "not run",
    not_checked: "in part",
  };
  const TONES = { pass: "person", fail: "refused", not_proven: "waiting", skipped: "none", not_checked: "waiting" };

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const row = (check) => {
    const made = element("tr", "", TONES[check.status]);
    made.append(element("th", check.name), element("td", STATUSES[check.status], "standing"));
    made.firstChild.scope = "row";
    const found = element("td");
    if (check.status !== "pass") {
      const title = clawcheck.TITLES[check.code];
      if (check.code !== "OK") found.append(element("span", check.code, "code"), ` ${title}. `);
    }
    if (check.place) found.append(element("span", check.place, "mono"), " ");
    found.append(element("bdi", check.detail, "dim"));
    made.append(found);
    return made;
  };

  const table = (checks) => {
    const made = element("table", "", "checks");
    const head = element("tr");
    for (const name of ["Check", "Result", "What was found"]) {
      const cell = element("th", name);
      cell.scope = "col";
      head.append(cell);
    }
    const body = element("tbody");
    body.append(...checks.map(row));
    made.append(element("thead"), body);
    made.firstChild.append(head);
    const scroll = element("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-label", "Checks");
    scroll.append(made);
    return scroll;
  };

  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  /** What came out, as one card. */
  const outcome = (report, fingerprints) => {
    const [title, sentence] = VERDICTS[report.verdict];
    const tone = { no_fault_found: "person", invalid: "refused" }[report.verdict] ?? "waiting";
    const card = element("div", "", `card ${tone}`);
    card.dataset.verdict = report.verdict;
    const heading = element("h3", title, "standing");
    heading.tabIndex = -1;
    card.append(heading, element("p", report.reason ?? sentence));
    if (report.first) {
      const { code, place, detail } = report.first;
      const what = element("p");
      what.append(element("span", code, "code"), ` ${clawcheck.TITLES[code]} `, element("span", place, "mono"));
      what.append(" ", element("bdi", detail, "dim"));
      card.append(what);
    }
    const facts = element("dl", "", "facts");
    for (const [name, value] of fingerprints) {
      const fact = element("div");
      fact.append(element("dt", name), element("dd", value, "mono"));
      facts.append(fact);
    }
    card.append(facts);
    if (report.checks.length > 0) card.append(table(report.checks));
    return card;
  };

  /** A file's bytes; one that is too large is read as far as it shows that. */
  const bytesOf = async (file) => {
    const most = clawcheck.MAX_BYTES + 1;
    return new Uint8Array(await file.slice(0, most).arrayBuffer());
  };

  const fetched = async (href) => {
    const answer = await fetch(href, { redirect: "error" });
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  };

  const prepare = (form) => {
    const [bundle, trust, kept, pasted, proof] = ["bundle", "trust", "kept", "pasted", "proof"]
      .map((name) => form.elements.namedItem(name));
    const status = form.querySelector("[data-check-status]");
    const result = form.parentElement.querySelector("[data-check-result]");
    const button = form.querySelector("button");
    let checking = 0;
    const embedded = document.getElementById("bundle-text")?.content.textContent;

    /** What came out is about the files that were chosen then. */
    const forget = () => {
      checking += 1;
      result.replaceChildren();
      status.textContent = "";
    };

    /** The bundle that was chosen, or that came with the page. */
    const bundleBytes = async () => {
      const [file] = bundle.files;
      if (file) return bytesOf(file);
      if (embedded) return clawcheck.toUtf8(embedded);
      if (form.dataset.bundle) return fetched(form.dataset.bundle);
      return null;
    };

    /** The checkpoint that the reader has kept, chosen or pasted, with the proof; null without. */
    const sinceThen = async () => {
      const [keptFile] = kept.files;
      const [proofFile] = proof.files;
      // What is pasted may have lost its last line feed, or got others.
      const text = pasted.value.replace(/\r\n/g, "\n").replace(/\n*$/, "\n");
      if (!keptFile && !pasted.value.trim()) return null;
      return {
        kept: keptFile ? await bytesOf(keptFile) : clawcheck.toUtf8(text),
        proof: proofFile ? await bytesOf(proofFile) : null,
      };
    };

    /** Checks; `own` is the number of this check, and what came of an older one is not shown. */
    const check = async (own) => {
      const [trustFile] = trust.files;
      const bytes = await bundleBytes();
      if (bytes === null || !trustFile) {
        status.textContent = "Choose a bundle and a trust root first.";
        return;
      }
      const trustBytes = await bytesOf(trustFile);
      const since = await sinceThen();
      if (since === null && proof.files.length > 0) {
        status.textContent = "A proof says something only beside the checkpoint that you have kept.";
        return;
      }
      const report = await clawcheck.check(bytes, trustBytes, (number, part) => {
        if (own !== checking) return;
        const names = since === null ? clawcheck.CHECKS : [...clawcheck.CHECKS, "consistency"];
        status.textContent = `Check ${number + 1} of ${names.length}, ${names[number]}: ${Math.round(part * 100)} %`;
      }, since);
      const fingerprints = report.verdict === "not_checked" ? [] : [
        ["Bundle, SHA-256", hex(await clawcheck.sha256(bytes))],
        ["Trust root, SHA-256", hex(await clawcheck.sha256(trustBytes))],
        ...(since ? [["Kept checkpoint, SHA-256", hex(await clawcheck.sha256(since.kept))]] : []),
      ];
      if (own !== checking) return;
      result.replaceChildren(outcome(report, fingerprints));
      status.textContent = "";
      result.querySelector("h3").focus();
    };

    const run = async (event) => {
      event.preventDefault();
      button.disabled = true;
      forget();
      const own = checking;
      try {
        await check(own);
      } catch (error) {
        // A file that vanished, a gateway that does not answer, memory that is not there.
        const reason = `This could not be checked: ${error.message}`;
        if (own === checking) {
          result.replaceChildren(outcome({ verdict: "not_checked", reason, checks: [] }, []));
          status.textContent = "";
        }
      }
      button.disabled = false;
    };

    /**
     * What is dropped goes by its content: only a trust root says that it is one, only a proof that
     * it is one, and a checkpoint is no JSON. A trust root or a checkpoint that was chosen stays:
     * whoever made a bundle can have made it look like that, too.
     */
    const drop = async (event) => {
      event.preventDefault();
      forget();
      for (const file of [...event.dataTransfer.files]) {
        const head = await file.slice(0, 1 << 16).text();
        const isTrust = /"trust_root"\s*:/.test(head);
        if (isTrust && trust.files.length > 0) {
          status.textContent = "The trust root that you chose stays. To take another, choose it in its field.";
          continue;
        }
        const isKept = !head.trimStart().startsWith("{");
        if (isKept && (kept.files.length > 0 || pasted.value.trim())) {
          status.textContent = "The checkpoint that you chose stays. To take another, choose it in its field.";
          continue;
        }
        const isProof = /"consistency"\s*:\s*"clawgate\.consistency\/1"/.test(head);
        const list = new DataTransfer();
        list.items.add(file);
        const field = isTrust ? trust : isKept ? kept : isProof ? proof : bundle;
        field.files = list.files;
        if (isKept || isProof) form.querySelector("details").open = true;
      }
    };

    form.addEventListener("submit", run);
    form.addEventListener("change", forget);
    form.addEventListener("dragover", (event) => event.preventDefault());
    form.addEventListener("drop", drop);
    status.textContent = "";
    button.disabled = false;
  };

  for (const form of document.querySelectorAll("form[data-check]")) prepare(form);
}
