// The dialogs: why a sample is rejected, and how far reviewers agree.

const $ = (id) => document.getElementById(id);

// Offers the reasons, each with its key; `reject(reason, note)` is called with the one that is taken.
export function fillReasons(reasons, other, reject) {
  const take = (reason, note = "") => {
    $("reject-dialog").close();
    reject(reason, note);
  };
  const rows = Object.entries(reasons).map(([reason, meaning], index) => {
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    const small = document.createElement("small");
    button.type = "button";
    button.dataset.reason = reason;
    key.textContent = index + 1;
    small.textContent = meaning;
    button.append(key, ` ${reason}`, small);
    button.addEventListener("click", () => (reason === other ? openOther() : take(reason)));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  $("reasons").replaceChildren(...rows);
  $("other-go").addEventListener("click", () => $("note").value.trim() && take(other, $("note").value));
  $("note").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    $("other-go").click();
  });
  $("reject-dialog").addEventListener("keydown", (event) => {
    if (event.target === $("note")) return;
    $("reasons").querySelectorAll("button")[Number(event.key) - 1]?.click();
    if (/^[1-9]$/.test(event.key)) event.preventDefault();
  });
}

export function openReject() {
  $("other-part").hidden = true;
  $("note").value = "";
  $("reject-dialog").showModal();
}

function openOther() {
  $("other-part").hidden = false;
  $("note").focus();
}

export function openAgreement(found) {
  const { value, note, samples, observed } = found.kappa;
  $("kappa").textContent = note || `Cohen’s kappa ${value.toFixed(2)}: of ${samples} samples that two saw they agree `
    + `on ${Math.round(100 * observed)} %. Rejected or not is what counts.`;
  const verdicts = ["accept", "edit", "reject", "skip"];
  fill($("reviewers"), Object.entries(found.reviewers).map(([name, own]) => [name, ...verdicts.map((v) => own[v] || 0)]));
  fill($("reason-counts"), Object.entries(found.reasons));
  $("agreement-dialog").showModal();
}

function fill(body, rows) {
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
}
