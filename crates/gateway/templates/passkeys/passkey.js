// Asks the authenticator for what a form needs, and sends the form. The contract is in
// operator/passkeys.rs. Makes no requests; keeps nothing.
"use strict";

(() => {
  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (c) => c.charCodeAt(0));
  };
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const credentials = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

  const sign = async (options) => {
    const made = await navigator.credentials.get({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        allowCredentials: credentials(options.allowCredentials),
      },
    });
    return {
      credential_id: text(made.rawId),
      authenticator_data: text(made.response.authenticatorData),
      client_data_json: text(made.response.clientDataJSON),
      signature: text(made.response.signature),
    };
  };

  const create = async (options) => {
    const made = await navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: credentials(options.excludeCredentials),
      },
    });
    return {
      authenticator_data: text(made.response.getAuthenticatorData()),
      client_data_json: text(made.response.clientDataJSON),
    };
  };

  const reasons = {
    NotAllowedError: "Nothing was signed: the passkey was not used, or it took too long.",
    InvalidStateError: "This device has a passkey for this gateway already.",
    NotSupportedError: "This device has no passkey of a kind that the gateway takes.",
    SecurityError: "This address is not the one for which passkeys are made.",
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const button = form.querySelector("button[type=submit]");
    const status = form.querySelector("[data-passkey-status]");
    const result = form.querySelector("[data-passkey-result]");
    const say = (words) => { if (status) status.textContent = words; };
    if (!button || !result) continue;
    if (!window.isSecureContext || !window.PublicKeyCredential) {
      say("This browser offers no passkeys at this address.");
      continue;
    }
    button.disabled = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      say("Waiting for your passkey.");
      try {
        const options = JSON.parse(form.dataset.passkeyOptions);
        const made = form.dataset.passkey === "create" ? create(options) : sign(options);
        result.value = JSON.stringify(await made);
      } catch (error) {
        button.disabled = false;
        say(reasons[error.name] || "The passkey could not be used: " + error.name);
        return;
      }
      // Unlike a click, this raises no further event.
      form.submit();
    });
  }
})();
