const tip = document.getElementById("tip");
function show(event) {
  const target = event.target.closest("[data-tip]");
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18 + tip.offsetHeight < innerHeight;
  tip.style.left = Math.max(x, 8) + "px";
  tip.style.top = (below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 12) + "px";
}
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
function hide() {
  tip.hidden = true;
}
document.addEventListener("pointerleave", hide);
addEventListener("scroll", hide, { passive: true });
function mark() {
  for (const box of document.querySelectorAll(".scroll"))
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
}
document.addEventListener("scroll", mark, { capture: true, passive: true });
addEventListener("resize", mark);
mark();
