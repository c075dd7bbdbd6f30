// The side panel: business numbers, customers, switches.

import { avatar, byId, h, icon } from "./dom.js";
import { summaryOf, timeOf } from "./format.js";

const NOTES = {
  subscribed: (number) => `Webhooks go to ${number.callbackUrl}`,
  alone: () => "No app is subscribed to this business yet, so nobody hears the customer. Connect the number in the app.",
};

export function renderNumbers(numbers, chosen) {
  const select = byId("number");
  const options = numbers.map((number) =>
    h("option", { value: number.phoneNumberId, selected: number === chosen }, number.verifiedName));
  select.replaceChildren(...(options.length ? options : [h("option", { value: "" }, "No number yet")]));
  select.disabled = !options.length;
  byId("number-phone").textContent = chosen?.displayPhoneNumber ?? "";
  const note = byId("number-note");
  note.textContent = chosen ? NOTES[chosen.subscribed ? "subscribed" : "alone"](chosen) : "";
  note.classList.toggle("bad", Boolean(chosen) && !chosen.subscribed);
  byId("credentials").hidden = !chosen;
  if (chosen) renderCredentials(chosen);
}

function renderCredentials(number) {
  const facts = { "WhatsApp Business Account ID": number.wabaId, "Phone number ID": number.phoneNumberId, "Access token": number.accessToken };
  byId("credential-list").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [
      h("dt", {}, name),
      h("dd", {},
        h("code", { title: value }, value ?? "revoked"),
        h("button", { type: "button", "aria-label": `Copy ${name}`, onclick: () => navigator.clipboard.writeText(value) }, icon("copy"))),
    ]),
  );
}

export function renderPeople(customers, chosen, onChoose) {
  const rows = customers.map((customer) => {
    const last = customer.chat?.lastMessage;
    const text = last ? `${last.direction === "inbound" ? "You: " : ""}${summaryOf(last)}` : identity(customer);
    const unread = customer.chat?.unread ?? 0;
    return h("li", {},
      h("button", { type: "button", class: "person", "aria-current": customer.id === chosen?.id ? "true" : null, onclick: () => onChoose(customer) },
        avatar(customer.name),
        h("b", {}, customer.name),
        last ? h("time", { datetime: last.time }, timeOf(last.time)) : h("span"),
        h("small", { title: identity(customer) }, text),
        unread ? h("span", { class: "count", "aria-label": `${unread} unread` }, String(unread)) : h("span")));
  });
  byId("people").replaceChildren(...(rows.length ? rows : [h("li", { class: "hint" }, "Nobody yet. Create the first customer.")]));
}

const identity = (customer) =>
  customer.waId ? `+${customer.waId}` : customer.username ? `@${customer.username}` : "phone number hidden";

export function renderSwitches(customer) {
  byId("switches").hidden = !customer;
  byId("offline-note").hidden = !customer || customer.online;
  if (!customer) return;
  byId("online").checked = customer.online;
  byId("receipts").checked = customer.readReceipts;
  byId("alone").checked = customer.readsAlone;
}

/** The form for a new customer; `onCreate(body)` may throw a refusal, which is shown in place. */
export function startCustomerDialog(onCreate) {
  const dialog = byId("customer-dialog");
  const form = byId("customer-form");
  const { name, waId, username, hidden } = form.elements;
  const follow = () => {
    byId("phone-field").hidden = hidden.checked;
    waId.required = !hidden.checked;
    waId.disabled = hidden.checked;
  };
  hidden.addEventListener("change", follow);
  byId("customer-cancel").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { name: name.value.trim(), readsAlone: false };
    if (!hidden.checked) body.waId = waId.value.trim();
    if (username.value.trim()) body.username = username.value.trim();
    try {
      await onCreate(body);
      dialog.close();
    } catch (refused) {
      byId("customer-error").textContent = refused.message.replace(`${refused.field}: `, "");
    }
  });
  return () => {
    form.reset();
    follow();
    byId("customer-error").textContent = "";
    dialog.showModal();
  };
}
