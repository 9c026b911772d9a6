
const panel = document.querySelector("[data-shown]");

function made(name, text, className) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function pictured(item) {
  const picture = made("img");
  picture.alt = "";
  picture.referrerPolicy = "no-referrer";
  picture.addEventListener("error", () => picture.remove());
  picture.src = item.image;
  return picture;
}

function shown(item, near) {
  const list = made("ol");
  list.append(...near.map((other) => made("li", other.title)));
  panel.replaceChildren(
    ...(/^(data:image\/|https?:\/\/)/.test(item.image ?? "") ? [pictured(item)] : []),
    made("h3", item.title),
    made("p", `in ${item.degree.toLocaleString("en")} contexts; nearest on this map:`, "soft"),
    list,
  );
}

const points = JSON.parse(document.querySelector("[data-points]").textContent);
drawMap(document.querySelector("[data-map]"), points, shown);
