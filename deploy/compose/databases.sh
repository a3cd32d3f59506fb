#!/bin/bash
# Makes the databases of a trial cloud and the user that cellkeeper works with. The image of MariaDB runs it once, as
# root of a server that listens on its socket alone.
set -euo pipefail

MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root --batch <<END
CREATE USER cellkeeper@'%' IDENTIFIED BY '$MARIADB_PASSWORD';
CREATE DATABASE nova_api CHARACTER SET utf8mb3;
CREATE DATABASE nova_cell0 CHARACTER SET utf8mb3;
CREATE DATABASE nova_cell1 CHARACTER SET utf8mb3;
GRANT ALL ON nova_api.* TO cellkeeper@'%';
GRANT ALL ON nova_cell0.* TO cellkeeper@'%';
GRANT ALL ON nova_cell1.* TO cellkeeper@'%';
END
