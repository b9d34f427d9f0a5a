// Dialogs: the API key, the link, the code, the help.

import { hasKey } from "./api.js";
import { curlCode, leftOut, pythonCode, toFragment } from "./sharing.js";

const $ = (id) => document.getElementById(id);

// Asks for an API key; gives "" when the question is closed without one.
export function askForKey(wasWrong) {
  const dialog = $("key-dialog");
  $("key").value = "";
  $("key-wrong").hidden = !wasWrong;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go" ? $("key").value.trim() : ""), { once: true });
  });
}

export function useDialogs(query, asker, say) {
  $("share").addEventListener("click", () => openLink(query));
  $("code").addEventListener("click", () => openCode(query, asker, "python"));
  $("help").addEventListener("click", () => $("help-dialog").showModal());
  $("link-copy").addEventListener("click", () => copy($("link").value, $("link-copy"), say));
  $("code-copy").addEventListener("click", () => copy($("code-text").textContent, $("code-copy"), say));
  for (const button of document.querySelectorAll("[data-code]")) {
    button.addEventListener("click", () => openCode(query, asker, button.dataset.code));
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
}

function openLink(query) {
  $("link").value = `${location.origin}${location.pathname}#${toFragment(query)}`;
  $("link-note").textContent = leftOut(query);
  if (!$("share-dialog").open) $("share-dialog").showModal();
  $("link").select();
}

function openCode(query, asker, language) {
  for (const button of document.querySelectorAll("[data-code]")) {
    button.setAttribute("aria-pressed", button.dataset.code === language);
  }
  const request = asker.request();
  $("code-note").hidden = language !== "curl" || !request.path.endsWith("search");
  const write = language === "python" ? pythonCode : curlCode;
  $("code-text").textContent = write(query, request, location.origin, hasKey());
  if (!$("code-dialog").open) $("code-dialog").showModal();
}

async function copy(text, button, say) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    say("Copied.");
  } catch {
    button.textContent = "Select it and copy it by hand";
    say("The browser does not let the page copy: select the text and copy it.");
  }
  setTimeout(() => { button.textContent = label; }, 1800);
}
