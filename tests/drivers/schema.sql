-- What each driver's program finds in its fresh database. No case leaves rows behind that another one counts on.

create table account (
    id int primary key,
    owner text not null,
    balance bigint not null
);

create table everything (
    id int primary key,
    an_int int,
    a_bigint bigint,
    a_numeric numeric,
    a_float float8,
    a_bool bool,
    a_text text,
    a_bytea bytea,
    a_timestamptz timestamptz,
    a_date date,
    a_uuid uuid,
    a_json json,
    a_jsonb jsonb,
    ints int[],
    texts text[],
    nothing text
);
