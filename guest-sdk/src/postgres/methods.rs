//! The methods that [`Client`](super::Client) and [`Transaction`](super::Transaction) share, with
//! one documentation: both read like `tokio_postgres`.

/// Expands to the methods, for a type with `fn host(&self) -> &impl Host`.
macro_rules! statement_methods {
    () => {
        /// Executes a statement and returns all of its rows.
        ///
        /// A statement is SQL text or a [`Statement`]; its parameters are `$1`, `$2` and so on. The
        /// first use of a text with parameters in an instance costs one more round trip.
        ///
        /// Fails without calling the database if the number of parameters is wrong or one has
        /// another type than the statement's.
        pub async fn query<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Vec<Row>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let rows = call::query(self.host(), statement.source(), params).await?;
            rows.collect().await
        }

        /// As [`query`](Self::query), for a statement that returns exactly one row.
        ///
        /// Fails if it returns another number ([`Error::is_row_count`]); the statement is executed
        /// all the same.
        pub async fn query_one<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Row, Error>
        where
            T: ?Sized + ToStatement,
        {
            let row = self.query_opt(statement, params).await?;
            row.ok_or_else(|| Error::new(Kind::RowCount))
        }

        /// As [`query`](Self::query), for a statement that returns one row or none.
        ///
        /// Fails if it returns more ([`Error::is_row_count`]); the statement is executed all the
        /// same.
        pub async fn query_opt<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<Option<Row>, Error>
        where
            T: ?Sized + ToStatement,
        {
            let rows = call::query(self.host(), statement.source(), params).await?;
            rows.at_most_one().await
        }

        /// As [`query`](Self::query), returning the rows as they arrive: for results that are too
        /// large to be kept, or whose first rows are of use already.
        ///
        /// The parameters may be anything that iterates over values of one type, or over
        /// `&(dyn ToSql + Sync)`.
        pub async fn query_raw<T, P, I>(&self, statement: &T, params: I) -> Result<RowStream, Error>
        where
            T: ?Sized + ToStatement,
            P: BorrowToSql,
            I: IntoIterator<Item = P>,
        {
            let params: Vec<P> = params.into_iter().collect();
            call::query(self.host(), statement.source(), &params).await
        }

        /// Executes a statement and returns how many rows it affected; 0 if it affects none.
        pub async fn execute<T>(
            &self,
            statement: &T,
            params: &[&(dyn ToSql + Sync)],
        ) -> Result<u64, Error>
        where
            T: ?Sized + ToStatement,
        {
            call::execute(self.host(), statement.source(), params).await
        }

        /// As [`execute`](Self::execute), with parameters as in [`query_raw`](Self::query_raw).
        pub async fn execute_raw<T, P, I>(&self, statement: &T, params: I) -> Result<u64, Error>
        where
            T: ?Sized + ToStatement,
            P: BorrowToSql,
            I: IntoIterator<Item = P>,
        {
            let params: Vec<P> = params.into_iter().collect();
            call::execute(self.host(), statement.source(), &params).await
        }

        /// What the server says of a statement. Seldom needed: see [`Statement`].
        pub async fn prepare(&self, query: &str) -> Result<Statement, Error> {
            call::prepare(self.host(), query, &[]).await
        }

        /// As [`prepare`](Self::prepare), naming the types of the first parameters. The server
        /// chooses the others.
        pub async fn prepare_typed(
            &self,
            query: &str,
            parameter_types: &[Type],
        ) -> Result<Statement, Error> {
            call::prepare(self.host(), query, parameter_types).await
        }
    };
}

pub(super) use statement_methods;
