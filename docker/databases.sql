-- Run once by the PostgreSQL image, on an empty volume: a database and a role a service, closed to the others.
\getenv beans_password BEANS_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv optuna_password OPTUNA_DB_PASSWORD

CREATE ROLE beans LOGIN PASSWORD :'beans_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password';

CREATE DATABASE beans OWNER beans;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE optuna OWNER optuna;

REVOKE CONNECT ON DATABASE beans, mlflow, optuna FROM PUBLIC;
