// The page: one business number, one customer, their chat.

import * as api from "./api.js";
import { byId, h, toast } from "./dom.js";
import * as composer from "./composer.js";
import { soon, watch } from "./live.js";
import { renderNumbers, renderPeople, renderSwitches, startCustomerDialog } from "./people.js";
import { clearThread, renderEmpty, renderHead, renderThread, startThread, toEnd } from "./thread.js";
import { clearTraffic, showMessage, showPending, showWebhook } from "./traffic.js";

const state = { numbers: [], customers: [], number: null, customer: null, messages: [] };

const remember = () => {
  localStorage.setItem("number", state.number?.phoneNumberId ?? "");
  localStorage.setItem("customer", state.customer?.id ?? "");
};

/** On a small screen one of the two is seen at a time. */
function show(view) {
  document.body.dataset.view = view;
  if (view === "chat") toEnd();
}

/** Do what the person asked; say so when it fails. */
async function attempt(work) {
  try {
    await work();
    return true;
  } catch (failed) {
    toast(failed instanceof api.Refused ? failed.message : "The emulator cannot be reached.");
    return false;
  }
}

async function loadAll() {
  state.numbers = await api.listNumbers();
  const wanted = state.number?.phoneNumberId ?? localStorage.getItem("number");
  state.number = state.numbers.find((one) => one.phoneNumberId === wanted) ?? state.numbers[0] ?? null;
  renderNumbers(state.numbers, state.number);
  await loadPeople();
  await loadChat();
  showPending((await api.getWebhooks()).pending);
}

async function loadPeople() {
  state.customers = state.number ? await api.listCustomers(state.number.phoneNumberId) : [];
  const wanted = state.customer?.id ?? localStorage.getItem("customer");
  state.customer = state.customers.find((one) => one.id === wanted) ?? state.customers[0] ?? null;
  drawPeople();
}

async function loadChat() {
  const { number, customer } = state;
  state.messages = [];
  if (number && customer) {
    const chat = await api.getChat(number.phoneNumberId, customer.id);
    if (state.customer?.id !== customer.id || state.number !== number) return;
    state.messages = chat.messages;
    state.customer = { ...customer, ...chat.customer };
  }
  drawChat();
  lookAtChat();
}

function drawPeople() {
  renderPeople(state.customers, state.customer, (customer) => attempt(() => choose(customer)));
  renderSwitches(state.customer);
}

function drawChat() {
  const { number, customer, messages } = state;
  renderHead(number, customer, () => show("people"));
  composer.enable(Boolean(number && customer));
  if (number && customer) {
    renderThread({ number, customer, messages, actions });
  } else if (number) {
    const button = h("button", { type: "button", class: "primary", onclick: openCustomerDialog }, "Create a customer");
    renderEmpty("Who is writing?", "Create a customer: the person who holds this phone.", button);
  } else {
    const button = h("button", { type: "button", class: "primary", onclick: addNumber }, "Add a business number");
    renderEmpty("No business number yet", "The number of a business that customers can write to.", button);
  }
}

async function choose(customer) {
  state.customer = customer;
  remember();
  clearThread();
  show("chat");
  composer.quote(null);
  drawPeople();
  await loadChat();
  byId("text").focus();
}

/** The chat is on a visible screen: the business's messages count as read. */
function lookAtChat() {
  const { number, customer, messages } = state;
  const isUnread = messages.some(({ direction, type, statuses }) =>
    direction === "outbound" && type !== "reaction" && statuses.length &&
    !statuses.some(({ status }) => status === "read" || status === "failed"));
  if (document.visibilityState !== "visible" || !customer?.online || !customer.readReceipts || !isUnread) return;
  attempt(() => api.openChat(number.phoneNumberId, customer.id));
}

const lookSoon = soon(lookAtChat, 700);
const peopleSoon = soon(() => attempt(loadPeople));
const pendingSoon = soon(() => attempt(async () => showPending((await api.getWebhooks()).pending)), 300);
const allSoon = soon(() => attempt(loadAll));
const chatSoon = soon(() => attempt(loadChat), 60);

async function send(message) {
  return attempt(async () => {
    const { webhook } = await api.send(state.number.phoneNumberId, state.customer.id, message);
    if (webhook === "not_subscribed") toast("Nobody hears this: no app is subscribed to the business.");
  });
}

const actions = {
  reply: (message) => composer.quote(message, state.number.verifiedName),
  react: (message, emoji) => send({ type: "reaction", reaction: { message_id: message.wamid, emoji } }),
  choose: (message, answer) => send({ ...answer, context: { id: message.wamid } }),
  pick: openList,
};

function openList(message) {
  const dialog = byId("list-dialog");
  const { button, sections } = message.interactive.action;
  byId("list-title").textContent = button;
  const answer = (row) => ({ type: "interactive", interactive: { type: "list_reply", list_reply: row } });
  byId("list-rows").replaceChildren(
    ...sections.flatMap((section) => [
      ...(section.title ? [h("h3", {}, section.title)] : []),
      ...section.rows.map((row) =>
        h("button", { type: "button", onclick: () => { dialog.close(); actions.choose(message, answer(row)); } },
          row.title, row.description ? h("small", {}, row.description) : null)),
    ]),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
  );
  dialog.showModal();
}

function onEvent(event) {
  switch (event.type) {
    case "message":
      showMessage(event.message);
      peopleSoon();
      if (isHere(event.message)) takeIn(event.message);
      break;
    case "webhook":
      showWebhook(event);
      pendingSoon();
      break;
    case "reached":
      if (event.customerId === state.customer?.id) chatSoon();
      break;
    case "readByBusiness":
    case "typing":
      if (event.customerId === state.customer?.id) {
        chatSoon();
        if (event.type === "typing") setTimeout(chatSoon, 25_200);
      }
      break;
    case "reset":
      clearTraffic();
      clearThread();
      state.number = state.customer = null;
      allSoon();
      break;
    default:
      allSoon();
  }
}

const isHere = ({ phoneNumberId, customerId }) =>
  phoneNumberId === state.number?.phoneNumberId && customerId === state.customer?.id;

function takeIn(message) {
  const place = state.messages.findIndex(({ wamid }) => wamid === message.wamid);
  if (place < 0) state.messages.push(message);
  else state.messages[place] = message;
  if (message.direction === "outbound" && state.customer.chat) state.customer.chat.typing = false;
  drawChat();
  if (message.status === "delivered") lookSoon();
}

const addNumber = () => attempt(async () => {
  const made = await api.createNumber();
  state.number = made;
  remember();
  await loadAll();
  byId("credentials").open = true;
});

const openCustomerDialog = startCustomerDialog(async (body) => {
  const made = await api.createCustomer(body);
  state.customer = made;
  remember();
  await loadPeople();
  await choose(state.customer);
});

function change(setting) {
  return (event) => attempt(async () => {
    await api.changeCustomer(state.customer.id, { [setting]: event.target.checked });
    await loadPeople();
    await loadChat();
  });
}

function start() {
  startThread();
  composer.startComposer(send);
  byId("new-customer").addEventListener("click", openCustomerDialog);
  byId("new-number").addEventListener("click", addNumber);
  byId("number").addEventListener("change", (event) => attempt(async () => {
    state.number = state.numbers.find((one) => one.phoneNumberId === event.target.value);
    clearThread();
    remember();
    await loadAll();
  }));
  byId("online").addEventListener("change", change("online"));
  byId("receipts").addEventListener("change", change("readReceipts"));
  byId("alone").addEventListener("change", change("readsAlone"));
  document.addEventListener("visibilitychange", lookAtChat);
  const tick = () => { byId("clock").textContent = new Date().toLocaleTimeString([], { hour: "numeric", minute: "2-digit" }); };
  tick();
  setInterval(tick, 10_000);
  if (window.matchMedia("(max-width: 1080px)").matches) byId("traffic").open = false;
  watch({ onEvent, onReconnect: allSoon });
  show("people");
  attempt(async () => {
    await loadAll();
    if (state.customer) show("chat");
  });
}

start();
