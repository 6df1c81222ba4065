// Prints what the web provider of OpenFeature reads, and the flag `new` when it has changed: client.mjs URL sse|polling
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";

const [, , baseUrl, changeDetection] = process.argv;
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

await OpenFeature.setContext({ targetingKey: "ann", plan: "beta" });
const provider = new OFREPWebProvider({ baseUrl, changeDetection, pollInterval: changeDetection === "polling" ? 200 : 0, cacheMode: "disabled" });
await OpenFeature.setProviderAndWait(provider);
const client = OpenFeature.getClient();
const dead = client.getBooleanDetails("dead", true);
const nobody = client.getBooleanDetails("nobody", true);
say({
  new: client.getBooleanValue("new", true),
  banner: client.getStringValue("banner", ""),
  limit: client.getNumberValue("limit", 0),
  rate: client.getNumberValue("rate", 0),
  page: client.getObjectValue("page", {}),
  beta: client.getBooleanValue("beta", false),
  dead: { value: dead.value, reason: dead.reason },
  nobody: { value: nobody.value, errorCode: nobody.errorCode },
});
client.addHandler(ProviderEvents.ConfigurationChanged, () => {
  if (client.getBooleanValue("new", false)) say({ new: true });
});
if (changeDetection === "sse") {
  // The stream is asked for, and not open yet; what changes until then is told once it is.
  await new Promise((resolve) => setTimeout(resolve, 0));
}
say({ listening: true });
