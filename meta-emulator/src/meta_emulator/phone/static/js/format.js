// Times, texts and WhatsApp's light markup.

import { h } from "./dom.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const precise = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export const timeOf = (when) => clock.format(new Date(when));
export const secondOf = (when) => precise.format(new Date(when));

export function dayOf(when) {
  const day = new Date(when);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) return "Today";
  if (day.toDateString() === yesterday.toDateString()) return "Yesterday";
  return date.format(day);
}

const MARKS = [
  [/```([^`]+)```/, "code"],
  [/(?<![\w*])\*([^*\n]+)\*(?![\w*])/, "strong"],
  [/(?<![\w_])_([^_\n]+)_(?![\w_])/, "em"],
  [/(?<![\w~])~([^~\n]+)~(?![\w~])/, "s"],
  [/https?:\/\/[^\s<>"]+/, "a"],
];

/** Text as nodes: *bold*, _italic_, ~strike~, ```code``` and links; nothing else is markup. */
export function marked(text) {
  let first = null;
  for (const [pattern, tag] of MARKS) {
    const match = pattern.exec(text);
    if (match && (first === null || match.index < first.match.index)) first = { match, tag };
  }
  if (first === null) return text ? [text] : [];
  const { match, tag } = first;
  const inner =
    tag === "a"
      ? h("a", { href: match[0], target: "_blank", rel: "noopener noreferrer" }, match[0])
      : h(tag, {}, tag === "code" ? match[1] : marked(match[1]));
  const rest = text.slice(match.index + match[0].length);
  return [text.slice(0, match.index), inner, ...marked(rest)].filter((part) => part !== "");
}

/** One line that stands for a message: in the list of chats and in quotes. */
export function summaryOf(message) {
  const content = message[message.type];
  switch (message.type) {
    case "text": return content.body;
    case "template": return message.rendered?.body ?? content.name;
    case "interactive": return content.body?.text ?? content.button_reply?.title ?? content.list_reply?.title ?? "Choice";
    case "button": return content.text;
    case "image": return `📷 ${content.caption || "Photo"}`;
    case "video": return `🎬 ${content.caption || "Video"}`;
    case "audio": return "🎤 Voice message";
    case "document": return `📄 ${content.filename || content.caption || "Document"}`;
    case "sticker": return "Sticker";
    case "location": return `📍 ${content.name || "Location"}`;
    case "contacts": return `👤 ${content[0]?.name?.formatted_name ?? "Contact"}`;
    case "reaction": return `Reacted ${content.emoji || "with nothing any more"}`;
    default: return message.type;
  }
}
