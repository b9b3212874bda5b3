// Copy buttons. Hidden in the page and shown here: without this script they could do nothing.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  if (!source || !navigator.clipboard) continue;
  const label = button.textContent;
  const announcer = document.createElement("span");
  announcer.className = "visually-hidden";
  announcer.setAttribute("role", "status");
  button.after(announcer);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      button.textContent = announcer.textContent = "Copied";
    } catch {
      // The browser refused: select the text, so that the keyboard can copy it.
      window.getSelection().selectAllChildren(source);
      announcer.textContent = "Selected. Copy it with your keyboard.";
    }
    setTimeout(() => {
      button.textContent = label;
      announcer.textContent = "";
    }, 3000);
  });
}

// After a form came back with errors, start the reader at the list of them.
document.querySelector(".error-summary")?.focus();
