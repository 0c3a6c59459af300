// Cards: on a phone what is not in the first lines is folded away.
(() => {
  "use strict";
  if (!matchMedia("(max-width: 640px)").matches) return;
  document.querySelectorAll("details.sk-more").forEach((each) => { each.open = false; });
})();
