// The list of what passes between WhatsApp and the app.

import { byId, h } from "./dom.js";
import { secondOf, summaryOf } from "./format.js";

const KEPT = 60;

export function showWebhook(event) {
  const isFine = event.answer === "200";
  const tries = event.attempts > 1 ? `, try ${event.attempts}` : "";
  const answer = /^\d+$/.test(event.answer) ? `answered ${event.answer}` : event.answer;
  add(isFine ? "good" : "bad", `Webhook ${event.summary}`, `${answer} in ${event.milliseconds} ms${tries}`, event.time * 1000);
}

export function showMessage(message) {
  if (message.direction === "inbound") {
    if (message.status === "sent") add("info", "Customer wrote", summaryOf(message), message.time);
    return;
  }
  const last = message.statuses.at(-1);
  if (!last) add("info", "App sent", summaryOf(message), message.time);
  else if (last.status === "failed") {
    const [error] = last.errors ?? [];
    add("bad", `Failed: ${error?.code ?? ""} ${error?.title ?? ""}`, error?.error_data?.details ?? "", last.time);
  }
}

export function showPending(count) {
  const badge = byId("pending");
  badge.hidden = count === 0;
  badge.textContent = `${count} waiting`;
}

export const clearTraffic = () => byId("traffic-list").replaceChildren();

function add(kind, title, detail, when) {
  const list = byId("traffic-list");
  const item = h("li", { class: kind },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", {}, title),
    h("time", {}, secondOf(when)),
    detail ? h("small", {}, detail.length > 160 ? `${detail.slice(0, 160)}…` : detail) : null);
  list.prepend(item);
  while (list.children.length > KEPT) list.lastElementChild.remove();
}
