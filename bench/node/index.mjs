// The work that is measured, as a function for Node.js: `aws-lambda-ric` with `pg`, the twin of
// `src/bin/native.rs`.

import pg from "pg";

// As in Rust: 64-bit integers are whole, timestamps are moments.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

// The address is in libpq's variables: `pg` does not understand all of its forms in one.
const pool = new pg.Pool({ max: 8 });

const mark = (row) =>
  row.id +
  row.part +
  row.price +
  Math.trunc(row.weight + row.volume) +
  row.name.length +
  (row.note?.length ?? 0) +
  Math.trunc(row.made.getTime() / 1000) +
  (row.extra.size ?? 0) +
  Number(row.sold);

export async function handle(event) {
  if (event.row !== undefined) {
    const { rows } = await pool.query({
      name: "row",
      text: "select id, name from bench_item where id = $1",
      values: [event.row],
    });
    return { id: rows[0].id, name: rows[0].name };
  }
  // `pg` keeps all rows until the last one is there, unless it is given a cursor of another package.
  const all = event.collect ?? event.stream;
  if (all !== undefined) {
    const { rows } = await pool.query({ name: "all", text: all });
    return rows.reduce((sum, row) => sum + mark(row), 0);
  }
  return event;
}
