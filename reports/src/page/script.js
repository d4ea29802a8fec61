// Lets a reader look closer along the time axis of a figure: by buttons, or by dragging across it.
"use strict";
for (const chart of document.querySelectorAll(".chart.zoom")) {
  const whole = [Number(chart.dataset.from), Number(chart.dataset.to)];
  const area = chart.querySelector(".area"), svg = area.querySelector("svg");
  const grid = svg.querySelector(".grid"), ticks = chart.querySelector(".ticks");
  let view = whole.slice();

  // Shows the times from `from` to `to`: moves the view box, and writes the labels anew.
  function show(from, to) {
    const least = (whole[1] - whole[0]) / 500;
    const width = Math.min(Math.max(to - from, least), whole[1] - whole[0]);
    from = Math.min(Math.max(from, whole[0]), whole[1] - width);
    view = [from, from + width];
    const unit = 1000 / (whole[1] - whole[0]);
    svg.setAttribute("viewBox", `${(from - whole[0]) * unit} 0 ${width * unit} 1000`);
    const raw = width / 8, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 5].find((factor) => factor * power >= raw * 0.999) ?? 10);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    let path = "";
    ticks.replaceChildren();
    for (let index = Math.ceil(from / step - 1e-9); index * step <= view[1] + 1e-9 * step; index += 1) {
      const label = document.createElement("span");
      label.textContent = (index * step).toFixed(digits);
      label.style.left = `${(index * step - from) / width * 100}%`;
      ticks.append(label);
      path += `M${(index * step - whole[0]) * unit} 0V1000`;
    }
    grid.setAttribute("d", path);
  }

  function zoom(factor) {
    const middle = (view[0] + view[1]) / 2, half = (view[1] - view[0]) * factor / 2;
    show(middle - half, middle + half);
  }
  const move = (share) => show(view[0] + share * (view[1] - view[0]), view[1] + share * (view[1] - view[0]));
  const actions = {
    in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.4), right: () => move(0.4), all: () => show(...whole),
  };
  const buttons = chart.querySelector(".buttons");
  buttons.hidden = false;
  buttons.addEventListener("click", (event) => actions[event.target.dataset.do]?.());
  area.addEventListener("dblclick", actions.all);

  let start = null;
  const picked = document.createElement("div");
  picked.className = "picked";
  const place = (event) => {
    const box = area.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  area.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    start = place(event);
    event.preventDefault();
  });
  addEventListener("pointermove", (event) => {
    if (start === null) return;
    const now = place(event);
    picked.style.left = `${Math.min(start, now) * 100}%`;
    picked.style.width = `${Math.abs(now - start) * 100}%`;
    area.append(picked);
  });
  addEventListener("pointerup", (event) => {
    if (start === null) return;
    const ends = [start, place(event)].sort((a, b) => a - b).map((share) => view[0] + share * (view[1] - view[0]));
    if (ends[1] - ends[0] > (view[1] - view[0]) * 0.01) show(...ends);
    start = null;
    picked.remove();
  });
}
