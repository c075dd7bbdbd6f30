// The control API of the emulator.

export class Refused extends Error {
  constructor(error, status) {
    super(error?.message ?? `The emulator answered ${status}.`);
    this.field = error?.field ?? null;
  }
}

async function call(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const answer = await fetch(`/_emulator${path}`, options);
  const content = await answer.json();
  if (!answer.ok) throw new Refused(content.error, answer.status);
  return content;
}

const query = (values) => new URLSearchParams(values).toString();

export const listNumbers = async () => (await call("GET", "/numbers")).numbers;
export const createNumber = () => call("POST", "/numbers", {});
export const listCustomers = async (phoneNumberId) =>
  (await call("GET", `/customers?${query({ phoneNumberId })}`)).customers;
export const createCustomer = (body) => call("POST", "/customers", body);
export const changeCustomer = (id, body) => call("PATCH", `/customers/${id}`, body);
export const getChat = (phoneNumberId, customerId) => call("GET", `/chat?${query({ phoneNumberId, customerId })}`);
export const openChat = (phoneNumberId, customerId) =>
  call("PATCH", "/chat", { phoneNumberId, customerId, opened: true });
export const send = (phoneNumberId, customerId, message) =>
  call("POST", "/inbound", { phoneNumberId, from: { customerId }, message });
export const getWebhooks = () => call("GET", "/webhooks");
