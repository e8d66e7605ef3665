// @vercel/cosmosdb-server on a port of loopback, with three of its faults mended: node cosmos.js NODE_MODULES PORT

const [modules, port] = [process.argv[2], Number(process.argv[3])];
const emulator = `${modules}/@vercel/cosmosdb-server`;

// It answers 500 to who reads a document that is not there; Cosmos answers 404. It knows of no time to live; Cosmos shows
// no item any more "ttl" seconds after "_ts". https://learn.microsoft.com/azure/cosmos-db/nosql/time-to-live
const reading = require(`${emulator}/lib/handler/read-document.js`);
const read = reading.default;
reading.default = (account, request, response, names) => {
  let found;
  try {
    found = read(account, request, response, names);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  if (found === undefined || (found.ttl > 0 && Date.now() / 1000 >= found._ts + found.ttl)) {
    response.statusCode = 404;
    return { code: "NotFound", message: "Entity with the specified id does not exist in the system." };
  }
  return found;
};

// It tells clients to go on with HTTPS, also where it speaks HTTP.
const accounts = require(`${emulator}/lib/account`);
accounts.default = class extends accounts.default {
  read() {
    const told = JSON.parse(JSON.stringify(super.read()));
    for (const location of [...told.writableLocations, ...told.readableLocations]) {
      location.databaseAccountEndpoint = `http://127.0.0.1:${port}/`;
    }
    return told;
  }
};

require(emulator).createHttpServer({ keepAlive: true }).listen(port, "127.0.0.1");
