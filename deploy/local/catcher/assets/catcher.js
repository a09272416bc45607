// Times in the reader's own zone, and a notice when mail has come since the list was shown.
for (const element of document.querySelectorAll("time")) {
  const moment = new Date(element.dateTime);
  if (!Number.isNaN(moment.getTime())) element.textContent = moment.toLocaleString();
}

const newest = document.body.dataset.newest;
const notice = document.getElementById("fresh");
if (notice && newest !== undefined) {
  setInterval(async () => {
    try {
      const answer = await fetch("/mails.json?limit=1");
      const { mails } = await answer.json();
      notice.hidden = !(mails.length > 0 && mails[0].number > Number(newest));
    } catch {
      notice.hidden = true; // the catcher is not there at the moment
    }
  }, 3000);
}
