// One message as a bubble.

import { h, icon } from "./dom.js";
import { marked, summaryOf, timeOf } from "./format.js";

const TICKS = {
  sent: ["one-tick", "Sent", ""],
  delivered: ["two-ticks", "Delivered", ""],
  read: ["two-ticks", "Read", "read"],
};

/** `actions`: reply(message), react(message, emoji), choose(message, answer), pick(message). */
export function bubble(message, { quoted, businessName, reactions, isTurn, actions }) {
  const isOwn = message.direction === "inbound";
  const box = h("div", { class: "bubble" });
  if (message.quoted) box.append(quote(quoted, businessName));
  box.append(...body(message), meta(message, isOwn));
  const choices = choicesOf(message, actions);
  if (choices.length) box.append(h("div", { class: "choices" }, choices));
  if (reactions.length) box.append(h("span", { class: "reactions", title: "Reactions" }, reactions.join("")));
  const classes = ["message", isOwn ? "own" : "other", isTurn ? "turn" : "", reactions.length ? "reacted" : ""];
  return h("div", { class: classes.filter(Boolean).join(" "), "data-wamid": message.wamid }, box, tools(message, actions));
}

function meta(message, isOwn) {
  const parts = [h("time", { datetime: message.time }, timeOf(message.time))];
  if (isOwn) {
    const [name, label, extra] = TICKS[message.status];
    parts.push(h("span", { class: extra, title: label }, icon(name, label)));
  }
  return h("span", { class: "meta" }, parts);
}

function quote(quoted, businessName) {
  if (!quoted) return h("span", { class: "quoted" }, h("span", {}, "Original message is gone"));
  const author = quoted.direction === "inbound" ? "You" : businessName;
  return h("span", { class: "quoted" }, h("b", {}, author), h("span", {}, summaryOf(quoted)));
}

function body(message) {
  const content = message[message.type];
  switch (message.type) {
    case "text": return [paragraph(content.body)];
    case "template": return framed(message.rendered, message);
    case "interactive": return interactive(content, message);
    case "button": return [paragraph(content.text)];
    case "location": return [thing("pin", content.name || "Location", content.address || `${content.latitude}, ${content.longitude}`)];
    case "contacts": return content.map((one) => thing("person", one.name.formatted_name, one.phones?.[0]?.phone ?? ""));
    case "image": case "video": case "audio": case "sticker": case "document":
      return [media(message.type, content, message.mediaUrl ?? content.link), ...caption(content)];
    default: return [h("p", {}, h("em", {}, `A message of type ${message.type}`))];
  }
}

function interactive(content, message) {
  const answer = content.button_reply ?? content.list_reply;
  if (answer) return [paragraph(answer.title), ...(answer.description ? [h("p", { class: "footer" }, answer.description)] : [])];
  const frame = { header: content.header, body: content.body?.text, footer: content.footer?.text };
  return framed(frame, message);
}

function framed({ header, body: text, footer }, message) {
  const parts = [];
  if (header?.type === "text") parts.push(h("p", { class: "title" }, header.text));
  else if (header?.type === "location") parts.push(thing("pin", header.location.name ?? "Location", ""));
  else if (header) parts.push(media(header.type, header[header.type], message.mediaUrl ?? header[header.type].link));
  if (text) parts.push(paragraph(text));
  if (footer) parts.push(h("p", { class: "footer" }, footer));
  return parts;
}

const paragraph = (text) => h("p", {}, marked(text));
const caption = (content) => (content.caption ? [paragraph(content.caption)] : []);

function media(type, content, url) {
  switch (type) {
    case "image": return h("img", { src: url, alt: content.caption || "Photo", loading: "lazy" });
    case "sticker": return h("img", { class: "sticker", src: url, alt: "Sticker" });
    case "video": return h("video", { src: url, controls: true, preload: "metadata" });
    case "audio": return h("audio", { src: url, controls: true, preload: "metadata" });
    default: return thing("file", content.filename || "Document", "Open", url);
  }
}

function thing(name, title, detail, url = null) {
  const inside = [icon(name), h("span", {}, title, h("small", {}, detail))];
  return url ? h("a", { class: "thing", href: url, target: "_blank", rel: "noopener noreferrer" }, inside) : h("span", { class: "thing" }, inside);
}

function choicesOf(message, actions) {
  if (message.direction === "inbound") return [];
  if (message.type === "template") return (message.rendered?.buttons ?? []).map((one) => templateButton(message, one, actions));
  if (message.type !== "interactive") return [];
  const { type, action } = message.interactive;
  const button = (label, answer) => h("button", { type: "button", onclick: () => actions.choose(message, answer) }, label);
  switch (type) {
    case "button":
      return action.buttons.map(({ reply }) =>
        button(reply.title, { type: "interactive", interactive: { type: "button_reply", button_reply: reply } }));
    case "list":
      return [h("button", { type: "button", onclick: () => actions.pick(message) }, action.button)];
    case "cta_url":
      return [link(action.parameters.display_text, action.parameters.url)];
    case "location_request_message":
      return [button("Send location", { type: "location", location: { latitude: 52.52, longitude: 13.405, name: "Berlin" } })];
    default:
      return [];
  }
}

function templateButton(message, { type, text, payload, url, code }, actions) {
  if (type === "URL" && url) return link(text, url);
  if (type === "QUICK_REPLY") {
    const answer = { type: "button", button: { payload, text } };
    return h("button", { type: "button", onclick: () => actions.choose(message, answer) }, text);
  }
  if (type === "OTP" || type === "COPY_CODE") {
    return h("button", { type: "button", onclick: () => navigator.clipboard.writeText(code) }, text || "Copy code");
  }
  return h("button", { type: "button", disabled: true }, text);
}

const link = (text, url) => h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text);

const EMOJI = ["👍", "❤️", "😂", "😮", "🙏"];

function tools(message, actions) {
  const box = h("div", { class: "tools" });
  const opener = h("button", { type: "button", "aria-label": "React", "aria-expanded": "false" }, icon("smile"));
  const close = () => {
    box.querySelector(".emoji")?.remove();
    opener.setAttribute("aria-expanded", "false");
  };
  // The focus leaves first: removing what has it would make `focusout` remove it a second time.
  const leave = () => { opener.focus(); close(); };
  const choose = (emoji) => { leave(); actions.react(message, emoji); };
  opener.addEventListener("click", () => {
    if (box.querySelector(".emoji")) return close();
    const buttons = EMOJI.map((emoji) =>
      h("button", { type: "button", "aria-label": `React ${emoji}`, onclick: () => choose(emoji) }, emoji));
    box.append(h("div", { class: "emoji" }, buttons));
    opener.setAttribute("aria-expanded", "true");
    buttons[0].focus();
  });
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
  box.addEventListener("focusout", (event) => { if (!box.contains(event.relatedTarget)) close(); });
  box.append(h("button", { type: "button", "aria-label": "Reply", onclick: () => actions.reply(message) }, icon("reply")), opener);
  return box;
}
