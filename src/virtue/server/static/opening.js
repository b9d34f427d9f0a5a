// Opening pictures: of the index by their paths, own ones from a file, the clipboard, or dropped on the page.

import { Failure, post, showPicture } from "./api.js";
import { galleryPicture } from "./cards.js";

const SHOWN = 1600;  // pixels along the longer side of the picture on the page

export function indexPicture(path) {
  return { path, name: path.split("/").pop() };
}

export function ownPicture(file) {
  const name = file.name || "picture";
  if (file.type && !file.type.startsWith("image/")) {
    throw new Failure(0, { message: `${name} is no picture: open a JPEG, PNG, WebP or another image file.` });
  }
  return { file, name };
}

// Lets the server read a picture; its id and size are known afterwards.
export async function openOnServer(picture, signal) {
  const { id, width, height } = await post("/v1/images", picture.path ? { index_path: picture.path } : picture.file, signal);
  return Object.assign(picture, { id, width, height });
}

// Shows a picture before the server has read it where the browser can; else what the server makes of it.
export async function showOn(image, picture) {
  image.alt = picture.path ? `Picture ${picture.path}` : `Your picture ${picture.name}`;
  if (picture.path) {
    await showPicture(image, galleryPicture(picture.path, SHOWN));
    return;
  }
  const address = URL.createObjectURL(picture.file);
  const release = () => URL.revokeObjectURL(address);
  image.addEventListener("load", release, { once: true });
  image.addEventListener("error", () => {
    release();
    if (picture.id) showPicture(image, `/v1/images/${picture.id}?size=${SHOWN}`);
  }, { once: true });
  image.src = address;
}

// Calls `take(file)` for what is chosen, pasted or dropped.
export function useFiles({ button, input, drop, take }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = "";  // the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((own) => own.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.hidden = true; });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.hidden = true;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}
