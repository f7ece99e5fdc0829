import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { correlation } from "./correlation.js";
import { jobTool } from "./job.js";

const PROVIDERS = {
  "clawgate-openai": "Clawgate (chat completions)",
  "clawgate-openai-responses": "Clawgate (responses)",
  "clawgate-anthropic": "Clawgate (messages)",
};

// A convenience for whoever runs OpenClaw: nothing here enforces anything, and the gateway
// believes nothing that comes from here.
export default definePluginEntry({
  id: "clawgate-openclaw",
  name: "Clawgate",
  description: "Correlation of model calls, a skill, and the state of the job",
  register(api) {
    for (const [id, label] of Object.entries(PROVIDERS)) {
      api.registerProvider({ id, label, auth: [], resolveTransportTurnState: correlation });
    }
    api.registerTool(jobTool());
  },
});
