// Checks a proof bundle against a trust root: the list of checks, in the order of `clawverify`.
"use strict";

{
  const c = clawcheck;

  /** Lets the page do what waits: a screen is drawn, a button answers. */
  const breathe = () => new Promise((resume) => setTimeout(resume));

  // So long the page is held at most, in milliseconds.
  const HOLD_MS = 40;

  /**
   * Checks the bytes of a bundle against those of a trust root. `progress` is told the number of
   * the check that runs, and how much of it is done, between 0 and 1. With `since`, also that the
   * log continues the one of a checkpoint that the caller has `kept` (a note, or a bundle with
   * one), by a `proof` where one is needed.
   */
  c.check = async (bundleBytes, trustBytes, progress = () => {}, since = null) => {
    const reason = await c.whyNot();
    if (reason !== null) return { verdict: "not_checked", reason, first: null, checks: [] };
    let running = 0;
    let held = performance.now();
    const pause = async (part) => {
      if (performance.now() - held < HOLD_MS) return;
      progress(running, part);
      await breathe();
      held = performance.now();
    };
    const names = since === null ? c.CHECKS : [...c.CHECKS, "consistency"];
    const report = new c.Report(names, (name) => {
      running = names.indexOf(name);
      return pause(0);
    });
    await runAll(report, bundleBytes, trustBytes, since, pause);
    return report.finish();
  };

  const runAll = async (report, bundleBytes, trustBytes, since, pause) => {
    const root = await report.run("trust-root", (f) => c.readTrust(trustBytes, f));
    const bundle = await report.run("file", (f) => c.readDocument(bundleBytes, pause, f));
    if (root === null || bundle === null) return;

    const keys = await report.run("key-sets", (f) => c.checkKeySets(bundle, root, f));
    const believed = { ...root, keys: keys?.sets.length ? keys : null };

    // What builds on nothing but the file comes first, so that one failure hides few others.
    const contract = await report.run("contract", (f) => c.checkContract(bundle, believed, f));
    await report.run("job", (f) => contract && c.checkJob(bundle, contract, believed, f));
    await report.run("sequence", (f) => c.checkSequence(bundle, f));
    const calls = await report.run("calls", (f) => c.checkCalls(bundle, f));
    const tokens = await report.run("tokens", (f) => contract && c.checkTokens(bundle, contract, believed, f));
    const checkpoint = await report.run("checkpoint", (f) => c.checkCheckpoint(bundle, contract, believed, f));
    await report.run("inclusion", (f) => checkpoint && c.checkInclusion(bundle, checkpoint, pause, f));
    const close = await report.run("close", (f) => contract && c.checkClose(bundle, contract, believed, f));
    await report.run("evidence", (f) => close && c.checkEvidence(bundle, close, f));
    const carried = await report.run("public-half", (f) =>
      contract && close && c.checkPublicHalf(bundle, contract, close, believed, pause, f));

    const facts = contract && calls && tokens && { bundle, believed, contract, calls, tokens };
    const model = await report.run("model-receipts", (f) =>
      facts && carried && c.checkReceipts(facts, carried, c.modelReceipt, pause, f));
    const terraform = await report.run("terraform-receipts", (f) => {
      const place = (n) => `/terraform/receipts/${n}`;
      const receipts = bundle.terraform.receipts.map((envelope, n) => ({ place: place(n), envelope }));
      return facts && c.checkReceipts(facts, receipts, c.toolReceipt, pause, f);
    });
    await report.run("receipt-references", (f) =>
      model && terraform && c.checkReferences(bundle, [...model, ...terraform], f));

    const judged = await report.run("approvals", (f) =>
      contract && tokens && c.checkApprovals(bundle, contract, tokens, believed, pause, f));
    await report.run("applies", (f) =>
      contract && calls && judged && c.checkApplies(bundle, contract, calls, judged, f));
    await report.run("runs", (f) => contract && c.checkRuns(bundle, contract, f));
    await report.run("decisions", (f) => contract && tokens && c.checkDecisions(bundle, f));
    if (since !== null) {
      await report.run("consistency", (f) =>
        checkpoint && c.checkConsistency(checkpoint, since, believed, f));
    }
  };
}
