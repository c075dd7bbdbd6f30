// The chat on the phone: what the customer sees of it.

import { avatar, byId, h, icon } from "./dom.js";
import { bubble } from "./bubble.js";
import { dayOf } from "./format.js";

/** The phone shows its own messages at once, those of the business when they were delivered to it. WhatsApp tells of
 *  reactions only that they were sent. */
const isVisible = (message) =>
  message.direction === "inbound" ||
  message.statuses.some(({ status }) => ["delivered", "read", message.type === "reaction" && "sent"].includes(status));

// What is drawn: a row is made anew only when what it shows has changed, so that focus and pictures stay.
let rows = new Map();
let isAtEnd = true;

export function startThread() {
  const thread = byId("thread");
  thread.addEventListener("scroll", () => {
    isAtEnd = thread.scrollHeight - thread.scrollTop - thread.clientHeight < 60;
  });
  // Pictures get their height when they arrive.
  thread.addEventListener("load", () => { if (isAtEnd) toEnd(); }, true);
}

export function toEnd() {
  const thread = byId("thread");
  thread.scrollTop = thread.scrollHeight;
  isAtEnd = true;
}

/** Another chat: nothing of the one before is kept. */
export function clearThread() {
  rows = new Map();
  isAtEnd = true;
}

export function renderThread({ number, customer, messages, actions }) {
  const visible = messages.filter(isVisible);
  const byWamid = new Map(messages.map((message) => [message.wamid, message]));
  const reactions = reactionsOf(visible);
  const drawn = new Map();
  const parts = [];
  let day = "";
  let before = null;
  for (const message of visible) {
    if (message.type === "reaction") continue;
    if (dayOf(message.time) !== day) {
      day = dayOf(message.time);
      parts.push(row(drawn, `day ${day}`, day, () => h("div", { class: "day" }, day)));
      before = null;
    }
    const context = {
      quoted: byWamid.get(message.quoted),
      businessName: number.verifiedName,
      reactions: reactions.get(message.wamid) ?? [],
      isTurn: before?.direction !== message.direction,
      actions,
    };
    const looks = [message.status, message.mediaUrl, context.reactions, context.isTurn, Boolean(context.quoted)].join();
    parts.push(row(drawn, message.wamid, looks, () => bubble(message, context)));
    before = message;
  }
  if (customer.chat?.typing) parts.push(row(drawn, "typing", "", typing));
  if (!parts.length) parts.push(empty(`Say hello to ${number.verifiedName}`, "Whatever you type here reaches the business."));
  const last = visible.at(-1)?.wamid;
  const isLonger = last !== undefined && !rows.has(last);
  rows = drawn;
  patch(byId("thread"), parts);
  if (isAtEnd || isLonger) toEnd();
}

function row(drawn, key, looks, make) {
  let found = rows.get(key);
  if (found?.looks !== looks) {
    const isNew = !found && rows.size > 0;
    found = { looks, element: make() };
    if (isNew) found.element.classList.add("new");
  }
  drawn.set(key, found);
  return found.element;
}

/** Make `nodes` the children, touching only those that differ. */
function patch(parent, nodes) {
  nodes.forEach((node, place) => {
    const present = parent.children[place];
    if (present === node) return;
    if (present && !nodes.includes(present)) present.replaceWith(node);
    else parent.insertBefore(node, present ?? null);
  });
  while (parent.children.length > nodes.length) parent.lastElementChild.remove();
}

export function renderHead(number, customer, onBack) {
  const state = customer?.chat?.typing ? "typing…" : "Business account";
  byId("chat-head").replaceChildren(
    h("button", { type: "button", class: "back", "aria-label": "Customers and settings", onclick: onBack }, icon("back")),
    avatar(number?.verifiedName ?? "?"),
    h("div", {}, h("b", {}, number?.verifiedName ?? "No business yet"), h("small", {}, number ? state : "")),
  );
}

export function renderEmpty(title, text, button = null) {
  clearThread();
  byId("thread").replaceChildren(empty(title, text, button));
}

function empty(title, text, button = null) {
  return h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, text), button);
}

function typing() {
  const dots = h("span", { class: "typing", role: "status", "aria-label": "typing" }, h("i"), h("i"), h("i"));
  return h("div", { class: "message other turn" }, h("div", { class: "bubble" }, dots));
}

/** The last reaction of each side, per message. */
function reactionsOf(messages) {
  const found = new Map();
  for (const message of messages) {
    if (message.type !== "reaction") continue;
    const { message_id: target, emoji } = message.reaction;
    const sides = found.get(target) ?? {};
    sides[message.direction] = emoji ?? "";
    found.set(target, sides);
  }
  return new Map([...found].map(([target, sides]) => [target, Object.values(sides).filter(Boolean)]));
}
