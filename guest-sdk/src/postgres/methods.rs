//! The methods that [`Client`](super::Client), [`Transaction`](super::Transaction) and
//! [`Session`](super::Session) share, with one documentation: all read like `tokio_postgres`.

/// Expands to the methods, for a type that is a `Host`, or for the trait of all that are.
macro_rules! statement_methods {
    ($visible:vis fn) => {
        /// Executes a statement and returns all of its rows.
        ///
        /// A statement is SQL text or a [`Statement`]; its parameters are `$1`, `$2` and so on. The
        /// first use of a text with parameters in an instance costs one more round trip.
        ///
        /// Fails before anything is executed if the number of parameters is wrong or one has
        /// another type than the statement's; of that the database is asked once more before.
        $visible async fn query<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Vec<Row>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let rows = call::query(self, statement.source(), params).await?;
            rows.collect().await
        }

        /// As [`query`](Self::query), for a statement that returns exactly one row.
        ///
        /// Fails if it returns another number ([`Error::is_row_count`]); the statement is executed
        /// all the same.
        $visible async fn query_one<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Row, Error>
        where
            T: ?Sized + ToStatement,
        {
            let row = self.query_opt(statement, params).await?;
            row.ok_or_else(|| Error::new(Kind::RowCount { is_none: true }))
        }

        /// As [`query`](Self::query), for a statement that returns one row or none.
        ///
        /// Fails if it returns more ([`Error::is_row_count`]); the statement is executed all the
        /// same.
        $visible async fn query_opt<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Option<Row>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let rows = call::query(self, statement.source(), params).await?;
            rows.at_most_one().await
        }

        /// As [`query`](Self::query), returning the rows as they arrive: for results that are too
        /// large to be kept, or whose first rows are of use already. A statement that writes is done for
        /// certain only once the last row is read: see [`RowStream`].
        ///
        /// The parameters may be anything that iterates over values of one type, or over
        /// `&(dyn ToSql + Sync)`.
        $visible async fn query_raw<T, P, I>(&self, statement: &T, params: I) -> Result<RowStream, Error>
        where
            T: ?Sized + ToStatement,
            P: BorrowToSql,
            I: IntoIterator<Item = P>,
        {
            let params: Vec<P> = params.into_iter().collect();
            call::query(self, statement.source(), &params).await
        }

        /// Executes a statement and returns how many rows it affected; 0 if it affects none.
        $visible async fn execute<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<u64, Error>
        where
            T: ?Sized + ToStatement,
        {
            call::execute(self, statement.source(), params).await
        }

        /// As [`execute`](Self::execute), with parameters as in [`query_raw`](Self::query_raw).
        $visible async fn execute_raw<T, P, I>(&self, statement: &T, params: I) -> Result<u64, Error>
        where
            T: ?Sized + ToStatement,
            P: BorrowToSql,
            I: IntoIterator<Item = P>,
        {
            let params: Vec<P> = params.into_iter().collect();
            call::execute(self, statement.source(), &params).await
        }

        /// As [`query`](Self::query), with the one value that each row has, converted.
        $visible async fn query_scalar<R: FromSqlOwned, T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Vec<R>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let rows = self.query(statement, params).await?;
            rows.iter().map(Row::try_scalar).collect()
        }

        /// As [`query_one`](Self::query_one), with the one value that the row has, converted.
        $visible async fn query_one_scalar<R: FromSqlOwned, T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<R, Error>
        where
            T: ?Sized + ToStatement,
        {
            self.query_one(statement, params).await?.try_scalar()
        }

        /// As [`query_opt`](Self::query_opt), with the one value that the row has, converted.
        $visible async fn query_opt_scalar<R: FromSqlOwned, T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Option<R>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let row = self.query_opt(statement, params).await?;
            row.as_ref().map(Row::try_scalar).transpose()
        }

        /// As [`query`](Self::query), naming the type of each parameter instead of leaving it to
        /// the server: for parameters whose type the SQL leaves open, or that should have another.
        /// If all of them are PostgreSQL's own, the first use costs no round trip more.
        $visible async fn query_typed(
            &self,
            query: &str,
            params: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<Vec<Row>, Error> {
            let params = params.iter().map(|(value, type_)| (*value, type_.clone()));
            self.query_typed_raw(query, params).await?.collect().await
        }

        /// As [`query_one`](Self::query_one), naming the types as in
        /// [`query_typed`](Self::query_typed).
        $visible async fn query_typed_one(
            &self,
            query: &str,
            params: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<Row, Error> {
            let row = self.query_typed_opt(query, params).await?;
            row.ok_or_else(|| Error::new(Kind::RowCount { is_none: true }))
        }

        /// As [`query_opt`](Self::query_opt), naming the types as in
        /// [`query_typed`](Self::query_typed).
        $visible async fn query_typed_opt(
            &self,
            query: &str,
            params: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<Option<Row>, Error> {
            let params = params.iter().map(|(value, type_)| (*value, type_.clone()));
            self.query_typed_raw(query, params)
                .await?
                .at_most_one()
                .await
        }

        /// As [`query_raw`](Self::query_raw), naming the types as in
        /// [`query_typed`](Self::query_typed).
        $visible async fn query_typed_raw<P, I>(
            &self,
            query: &str,
            params: I,
        ) -> Result<RowStream, Error>
        where
            P: BorrowToSql,
            I: IntoIterator<Item = (P, Type)>,
        {
            let (params, oids, types) = call::parted(params);
            call::query(self, Source::Typed(query, &oids, &types), &params).await
        }

        /// As [`execute`](Self::execute), naming the types as in
        /// [`query_typed`](Self::query_typed).
        $visible async fn execute_typed(
            &self,
            query: &str,
            params: &[(&(dyn ToSql + Sync), Type)],
        ) -> Result<u64, Error> {
            let params = params.iter().map(|(value, type_)| (*value, type_.clone()));
            let (params, oids, types) = call::parted(params);
            call::execute(self, Source::Typed(query, &oids, &types), &params).await
        }

        /// Executes statements without parameters, separated by semicolons, and drops their rows.
        /// Outside of a transaction they are one of their own, unless they contain `BEGIN` or
        /// `COMMIT` themselves. They may have 1 MiB of text.
        ///
        /// Never put a value into the text: it would be read as SQL.
        $visible async fn batch_execute(&self, query: &str) -> Result<(), Error> {
            Ok(Host::send_batch(self, cells::sql(query)?).await?)
        }

        /// Collects statements that are then executed in one round trip, all or none. So only the last of
        /// them may end the transaction that they are, by `COMMIT` or the like.
        ///
        /// ```
        /// # async fn example(db: hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
        /// let mut pipeline = db.pipeline();
        /// pipeline.add("UPDATE product SET stock = stock - $1 WHERE sku = $2", &[&1, &"pen"]);
        /// pipeline.add("INSERT INTO log (what) VALUES ($1)", &[&"sold a pen"]);
        /// let outcomes = pipeline.run().await?;
        /// assert_eq!(outcomes[0].affected, 1);
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// What adds to it for any of a client, a transaction and a session names the
        /// [`GenericClient`](super::GenericClient):
        ///
        /// ```
        /// use hearth::postgres::{GenericClient, Pipeline};
        ///
        /// fn restock<'a, H: GenericClient>(pipeline: &mut Pipeline<'a, H>, lines: &'a [(String, i32)]) {
        ///     for (sku, by) in lines {
        ///         pipeline.add("UPDATE product SET stock = stock + $2 WHERE sku = $1", &[sku, by]);
        ///     }
        /// }
        /// ```
        $visible fn pipeline(&self) -> Pipeline<'_, Self> {
            Pipeline::new(self)
        }

        /// Begins a `COPY … FROM STDIN`, in whatever format it says: the quickest way to store many
        /// rows.
        $visible async fn copy_in<T>(&self, statement: &T) -> Result<CopyIn, Error>
        where
            T: ?Sized + ToStatement,
        {
            let (sql, _) = call::parts(statement.source());
            let handle = Host::send_copy_in(self, cells::sql(sql)?).await?;
            Ok(CopyIn::new(handle, Host::trouble(self)))
        }

        /// Begins a `COPY … TO STDOUT`, in whatever format it says.
        $visible async fn copy_out<T>(&self, statement: &T) -> Result<CopyOut, Error>
        where
            T: ?Sized + ToStatement,
        {
            let (sql, _) = call::parts(statement.source());
            let handle = Host::send_copy_out(self, cells::sql(sql)?).await?;
            Ok(CopyOut::new(handle, Host::trouble(self)))
        }

        /// What the server says of a statement now, in a round trip. Seldom needed: see [`Statement`].
        $visible async fn prepare(&self, query: &str) -> Result<Statement, Error> {
            call::prepare(self, query, &[]).await
        }

        /// As [`prepare`](Self::prepare), naming the types of the first parameters. The server
        /// chooses the others.
        $visible async fn prepare_typed(
            &self,
            query: &str,
            parameter_types: &[Type],
        ) -> Result<Statement, Error> {
            call::prepare(self, query, parameter_types).await
        }
    };
}

/// Expands to the method that gives calls less time, for a type that has a `timeout`.
macro_rules! timeout_method {
    () => {
        /// Gives each call from now on so much time at most, if the invocation has more: the server
        /// gives up a statement that takes longer, with
        /// [`QUERY_CANCELED`](super::SqlState::QUERY_CANCELED), and a connection is waited for no
        /// longer ([`Error::is_busy`]). One of which nothing is heard for about a second beyond that is lost
        /// ([`Error::is_closed`]). `None`: as long as the invocation has.
        ///
        /// The statements of a pipeline and of a batch have so much each (as much together, where the session or the
        /// transaction has set a `statement_timeout` of its own, which holds as well); rows that are streamed, and
        /// a `COPY`, from their begin to their end. What begins here later (a transaction, a session)
        /// takes it over.
        pub fn set_timeout(&mut self, timeout: Option<Duration>) {
            self.timeout = timeout;
        }
    };
}

pub(super) use {statement_methods, timeout_method};
